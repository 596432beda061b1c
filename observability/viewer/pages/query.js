// Queries as text: how their parts are written. `query.py` says what they mean.

export const TOKEN = /(?:"(?:[^"\\]|\\.)*(?:"|$)|[^\s"])+/g;
export const COMPARISON = /^("(?:[^"\\]|\\.)*"|[^\s"=!<>]+)(!=|>=|<=|=|>|<)(.*)$/s;
const PLAIN = /^[^\p{C}\p{Z}"*]+$/u; // what is a space differs between languages

/** What a key or a value stands for. */
export const unquoted = (text) => (text.startsWith('"') ? text.slice(1).replace(/"$/, "").replace(/\\(.)/gs, "$1") : text);

/** A key or a value as it stands in a query. */
export function quoted(text) {
  return PLAIN.test(text) ? text : `"${text.replace(/["\\]/g, "\\$&")}"`;
}

/** A key as it stands in a query, where it must not end at an operator. */
export function quotedKey(key) {
  return /[=!<>]/.test(key) ? `"${key.replace(/["\\]/g, "\\$&")}"` : quoted(key);
}

/** `key=value`, as a condition of a query. */
export function condition(key, value) {
  return `${quotedKey(key)}=${quoted(String(value))}`;
}

/** A query with one more condition, once. */
export function narrowed(query, more) {
  const tokens = query.match(TOKEN) ?? [];
  return tokens.includes(more) ? query : [...tokens, more].join(" ");
}

// The box in which a query is typed: an ARIA combobox that completes keys, and then values, where the caret stands.
// Up and Down choose, Enter takes what is chosen or else searches, Escape closes; `/` comes here from anywhere.

import { element, load } from "./common.js";

const TOKEN = /(?:"(?:[^"\\]|\\.)*(?:"|$)|[^\s"])+/g;
const COMPARISON = /^("(?:[^"\\]|\\.)*"|[^\s"=!<>]+)(!=|>=|<=|=|>|<)(.*)$/s;
const PLAIN = /^[^\s"*]+$/;

const unquoted = (text) => (text.startsWith('"') ? text.slice(1).replace(/"$/, "").replace(/\\(.)/gs, "$1") : text);

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

/** What is being typed at the caret: where it begins and ends, and its key and operator if it has come so far. */
function tokenAt(text, caret) {
  for (const match of text.matchAll(TOKEN)) {
    const end = match.index + match[0].length;
    if (caret < match.index) break;
    if (caret > end) continue;
    const typed = text.slice(match.index, caret);
    const [, key, operator, value] = COMPARISON.exec(typed) ?? [];
    return { start: match.index, end, key, operator, prefix: unquoted(value ?? typed) };
  }
  return { start: caret, end: caret, prefix: "" };
}

/**
 * Make the box in `form`.
 *
 * @param {HTMLFormElement} form is filled.
 * @param {string} placeholder shows by example what can be asked.
 * @param {(query: string) => void} search is told what is asked for.
 * @returns {{value: string, complain: (message: string) => void}}
 */
export function queryBox(form, placeholder, search) {
  const input = element("input");
  const list = element("ul");
  const complaint = element("p", "complaint");
  const clear = element("button", "plain", "×");
  Object.assign(input, { id: "query", type: "search", placeholder, autocomplete: "off", spellcheck: false });
  Object.assign(list, { id: "completions", hidden: true });
  Object.assign(clear, { type: "button", hidden: true, title: "Clear the query" });
  clear.setAttribute("aria-label", clear.title);
  for (const [name, value] of Object.entries({ role: "combobox", "aria-label": "Query", "aria-autocomplete": "list",
    "aria-expanded": "false", "aria-controls": list.id, autocapitalize: "off", enterkeyhint: "search",
    "aria-describedby": "complaint" })) input.setAttribute(name, value);
  list.setAttribute("role", "listbox");
  list.setAttribute("aria-label", "Completions");
  complaint.id = "complaint";
  complaint.setAttribute("role", "alert");
  form.setAttribute("role", "search");
  form.append(element("div", "box", input, clear, list), complaint);

  let token = tokenAt("", 0);
  let chosen = -1;
  let asked = 0;
  let timer;

  function close() {
    clearTimeout(timer);
    asked += 1;
    chosen = -1;
    list.hidden = true;
    input.setAttribute("aria-expanded", "false");
    input.removeAttribute("aria-activedescendant");
  }

  function choose(index) {
    const options = [...list.children];
    options[chosen]?.setAttribute("aria-selected", "false");
    chosen = (index + options.length + 1) % (options.length + 1); // one place more: the box itself
    if (chosen === options.length) chosen = -1;
    options[chosen]?.setAttribute("aria-selected", "true");
    options[chosen]?.scrollIntoView({ block: "nearest" });
    if (chosen < 0) input.removeAttribute("aria-activedescendant");
    else input.setAttribute("aria-activedescendant", options[chosen].id);
  }

  function take(text) {
    const whole = token.operator ? `${token.key}${token.operator}${quoted(text)} ` : text;
    const rest = input.value.slice(token.end).replace(/^\s+/, "");
    input.value = `${input.value.slice(0, token.start)}${whole}${rest}`;
    const caret = token.start + whole.length;
    input.setSelectionRange(caret, caret);
    input.focus();
    clear.hidden = false;
    close();
    offer();
  }

  function show(completions) {
    list.replaceChildren(...completions.map(({ text, insert, hint }, index) => {
      const option = element("li", "", element("span", "", text), element("small", "", hint ?? ""));
      option.id = `completion-${index}`;
      option.setAttribute("role", "option");
      option.setAttribute("aria-selected", "false");
      option.addEventListener("pointerdown", (event) => {
        event.preventDefault(); // keeps the focus in the box
        take(insert ?? text);
      });
      return option;
    }));
    chosen = -1;
    list.hidden = !completions.length;
    input.setAttribute("aria-expanded", String(!list.hidden));
    input.removeAttribute("aria-activedescendant");
  }

  async function complete() {
    const current = (asked += 1);
    token = tokenAt(input.value, input.selectionStart);
    const { key, operator, prefix } = token;
    const query = new URLSearchParams(operator ? { key: unquoted(key), prefix } : { prefix });
    let completions;
    try {
      ({ completions } = await load(`/api/completion?${query}`));
    } catch {
      return; // one types on without
    }
    if (current !== asked || document.activeElement !== input) return;
    if (operator) show(completions.filter(({ text }) => text !== prefix));
    else show(completions.map(({ text, hint }) => ({ text, hint, insert: text === "error" ? "error " : `${quotedKey(text)}=` })));
  }

  function offer() {
    clearTimeout(timer);
    timer = setTimeout(complete, 80);
  }

  function ask() {
    close();
    search(input.value.trim());
  }

  input.addEventListener("input", () => {
    clear.hidden = !input.value;
    offer();
  });
  input.addEventListener("click", offer);
  input.addEventListener("blur", close);
  input.addEventListener("keydown", (event) => {
    switch (event.key) {
      case "ArrowDown":
      case "ArrowUp":
        event.preventDefault();
        if (list.hidden) complete();
        else choose(chosen + (event.key === "ArrowDown" ? 1 : chosen < 0 ? list.children.length : -1));
        break;
      case "Escape":
        if (list.hidden) input.blur();
        event.preventDefault();
        close();
        break;
      case "Enter":
        event.preventDefault();
        if (chosen < 0) ask();
        else list.children[chosen].dispatchEvent(new PointerEvent("pointerdown", { cancelable: true }));
        break;
    }
  });
  clear.addEventListener("click", () => {
    input.value = "";
    clear.hidden = true;
    ask();
    input.focus();
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  document.addEventListener("keydown", (event) => {
    if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea, select")) return;
    event.preventDefault();
    input.focus();
    input.select();
  });

  return {
    get value() {
      return input.value.trim();
    },
    set value(query) {
      if (document.activeElement === input && query === input.value.trim()) return;
      input.value = query;
      clear.hidden = !query;
    },
    complain(message) {
      complaint.textContent = message;
      input.setAttribute("aria-invalid", String(Boolean(message)));
    },
  };
}

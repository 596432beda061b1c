// Where the nodes of a small directed graph stand: in layers from left to right, callers before those they call.
// After Sugiyama, Tagawa and Toda (1981): break cycles, put into layers, order each layer by its neighbours' middle.

const SWEEPS = 8;

/**
 * @param {string[]} names of the nodes.
 * @param {{from: string, to: string, weight: number}[]} edges in the order of their importance: of a cycle the least
 *   important one is turned back.
 * @returns {{columns: string[][], at: Map<string, {column: number, row: number}>, paths: Map<object, string[]>, back: Set<object>}}
 *   `columns` hold nodes and, where a longer edge passes, places that are no node; `paths` are the places of each edge.
 */
export function layers(names, edges) {
  const next = new Map(names.map((name) => [name, []]));
  const reaches = (from, to) => {
    const seen = new Set();
    const pending = [from];
    while (pending.length) {
      const name = pending.pop();
      if (name === to) return true;
      if (seen.has(name)) continue;
      seen.add(name);
      pending.push(...next.get(name));
    }
    return false;
  };
  const back = new Set();
  const forward = [];
  for (const edge of edges) {
    if (reaches(edge.to, edge.from)) back.add(edge);
    else {
      next.get(edge.from).push(edge.to);
      forward.push(edge);
    }
  }

  // The longest way from a node without callers.
  const depth = new Map(names.map((name) => [name, 0]));
  for (let changed = true; changed; ) {
    changed = false;
    for (const { from, to } of forward)
      if (depth.get(to) < depth.get(from) + 1) {
        depth.set(to, depth.get(from) + 1);
        changed = true;
      }
  }
  const columns = Array.from({ length: Math.max(0, ...depth.values()) + 1 }, () => []);
  for (const name of names) columns[depth.get(name)].push(name);

  const paths = new Map();
  const before = new Map();
  const after = new Map();
  const join = (from, to) => {
    after.set(from, [...(after.get(from) ?? []), to]);
    before.set(to, [...(before.get(to) ?? []), from]);
  };
  forward.forEach((edge, number) => {
    const path = [edge.from];
    for (let column = depth.get(edge.from) + 1; column < depth.get(edge.to); column += 1) {
      const place = `\u0000${number} ${column}`; // no service has such a name
      columns[column].push(place);
      path.push(place);
    }
    path.push(edge.to);
    path.slice(1).forEach((place, index) => join(path[index], place));
    paths.set(edge, path);
  });

  const at = new Map();
  const number = () => columns.forEach((column, index) => column.forEach((place, row) => at.set(place, { column: index, row })));
  number();
  for (let sweep = 0; sweep < SWEEPS; sweep += 1) {
    const neighbours = sweep % 2 ? after : before;
    for (const column of sweep % 2 ? [...columns].reverse() : columns) {
      const middle = (place) => {
        const near = neighbours.get(place);
        return near ? near.reduce((sum, one) => sum + at.get(one).row, 0) / near.length : at.get(place).row;
      };
      const middles = new Map(column.map((place) => [place, middle(place)]));
      column.sort((a, b) => middles.get(a) - middles.get(b));
      number();
    }
  }
  return { columns, at, paths, back };
}

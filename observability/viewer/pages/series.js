// What the points of an instrument say: cumulative sums become rates, cumulative histograms what came between two points.

/** Whether a point counts from anew, since its process has started again. */
const isReset = (before, point) => point.start > before.time || point.count < before.count || point.value < before.value;

/** [time, value] of a series: the value itself or, of a sum that only grows, its rate a second. */
export function values({ points }, { type, monotonic, delta }) {
  if (type !== "sum" || !monotonic) return points.map(({ time, value }) => [time, value]);
  const rates = [];
  points.forEach((point, index) => {
    const before = points[index - 1];
    if (delta) {
      const from = point.start || before?.time;
      if (from && point.time > from) rates.push([point.time, (point.value * 1e6) / (point.time - from)]);
    } else if (before && point.time > before.time)
      rates.push([point.time, ((isReset(before, point) ? point.value : point.value - before.value) * 1e6) / (point.time - before.time)]);
  });
  return rates;
}

/** The measurements between one point of a histogram and the next, as {time, bounds, counts}. */
export function distributions({ points }, { delta }) {
  if (delta) return points.map(({ time, bounds, counts }) => ({ time, bounds, counts }));
  const told = [];
  points.forEach((point, index) => {
    const before = points[index - 1];
    if (!before) return;
    const isSame = !isReset(before, point) && before.bounds.length === point.bounds.length && before.bounds.every((bound, at) => bound === point.bounds[at]);
    told.push({ time: point.time, bounds: point.bounds, counts: isSame ? point.counts.map((count, at) => count - before.counts[at]) : point.counts });
  });
  return told;
}

/** The value that a share of the measurements does not exceed, between the bounds of its bucket; null of none. */
export function quantile({ bounds, counts }, share) {
  let left = share * counts.reduce((sum, count) => sum + count, 0);
  if (!left) return null;
  for (let index = 0; index < counts.length; index += 1) {
    if (counts[index] && left <= counts[index]) {
      const high = bounds[Math.min(index, bounds.length - 1)];
      const low = index ? bounds[index - 1] : Math.min(0, high);
      return index >= bounds.length ? bounds.at(-1) : low + ((high - low) * left) / counts[index];
    }
    left -= counts[index];
  }
  return bounds.at(-1) ?? null;
}

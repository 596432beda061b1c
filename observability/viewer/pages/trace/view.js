// The part of a trace that is looked at, from one time to another.

/** A part of the trace, made to lie within it and to be no shorter than a nanosecond for each pixel. */
export function clamped([from, to], length) {
  const span = Math.min(length, Math.max(to - from, Math.min(length, 100)));
  const start = Math.min(Math.max(0, from), length - span);
  return [start, start + span];
}

/** The same part, made wider or narrower by a factor around a time that stays where it is seen. */
export function zoomed(view, at, factor, { trace, scale }) {
  const [from, to, middle] = [...view, at].map(scale.place);
  return clamped([middle - (middle - from) * factor, middle + (to - middle) * factor].map(scale.time), trace.length);
}

/** The same part, moved along by a share of its width as it is seen. */
export function moved(view, share, { trace, scale }) {
  const [from, to] = view.map(scale.place);
  const by = Math.max(-from, Math.min(scale.length - to, share * (to - from)));
  return clamped([from + by, to + by].map(scale.time), trace.length);
}

/** A part that has a span in it with a little room around. */
export function around(span, length) {
  const room = Math.max((span.end - span.start) * 0.1, 50);
  return clamped([span.start - room, span.end + room], length);
}

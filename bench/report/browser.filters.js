// Which pairs the list has, and in which order: the controls' filters and sorting.
const choice = (name) => ($(name).value === "" ? null : Number($(name).value));

function filters() {
  const all = Boolean(beside) && $("among").value === "all";
  const compares = $("sort").value === "most" || $("sort").value === "fewest"; // pictures, known of the page's own alone
  return {
    all, words: $("search").value.toLowerCase().split(/\s+/).filter(Boolean),
    set: choice("set"), category: choice("category"), setting: choice("setting"),
    metric: choice("metric"), method: choice("method") ?? BASELINE,
    won: $("won").value, least: Math.abs(parseFloat($("least").value)) || 0,
    moved: all ? 0 : Math.max(parseFloat($("moved").value) || 0, 0), sort: all && compares ? "order" : $("sort").value,
  };
}

// What says nothing about scores: a blind vote draws from these.
function placed(among, { words, set, category, setting }) {
  return among.filter((pair) =>
    (set === null || pair.set === set) && (category === null || pair.category === category) &&
    (setting === null || pair.setting === setting) && words.every((word) => pair.text.includes(word)));
}

function selected(given) {
  const { metric, method, won, least, moved, sort } = given;
  const change = (pair) => (metric === null ? null : delta(pair, method, metric));
  const found = placed(pairs, given).filter((pair) =>
    (!won || (metric !== null && winner(pair, method, metric) === won)) &&
    (moved === 0 || (changed(pair, method) !== null && changed(pair, method) >= moved)) &&
    (least === 0 || (change(pair) !== null && Math.abs(change(pair)) >= least)));
  const far = (turn) => [...found].sort((a, b) => (changed(a, method) === null) - (changed(b, method) === null) || turn * (changed(a, method) - changed(b, method)) || a.at - b.at);
  if (sort === "most") return far(-1);
  if (sort === "fewest") return far(1);
  const value = {
    gain: (pair) => change(pair) * metrics[metric].sign,
    loss: (pair) => -change(pair) * metrics[metric].sign,
    size: (pair) => Math.abs(change(pair)),
  }[sort];
  if (!value || metric === null) return found;
  // Pairs that the metric did not score come last; equal ones stay in prompt order.
  const known = found.filter((pair) => change(pair) !== null).map((pair) => [value(pair), pair]);
  known.sort(([a, one], [b, other]) => b - a || one.at - other.at);
  return [...known.map(([, pair]) => pair), ...found.filter((pair) => change(pair) === null)];
}

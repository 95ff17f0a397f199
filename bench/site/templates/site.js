// Filters of the leaderboard, two runs side by side, and times in the reader's own zone.
(() => {
"use strict";
for (const time of document.querySelectorAll("time[datetime]")) {
  const at = new Date(time.getAttribute("datetime"));
  if (!Number.isNaN(at.getTime())) {
    time.title = time.textContent;
    time.textContent = at.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
  }
}

// The leaderboard ----------------------------------------------------------------------------------------------------

const filters = document.querySelector("[data-filters]");
if (filters) {
  filters.hidden = false;
  const wanted = (name) => filters.querySelector(`[data-filter="${name}"]`).value.trim();
  const apply = () => {
    const [model, metric, twin] = ["model", "metric", "twin"].map(wanted);
    const words = wanted("text").toLowerCase().split(/\s+/).filter(Boolean);
    const has = (element) => words.every((word) => element.dataset.text.toLowerCase().includes(word));
    for (const board of document.querySelectorAll(".board")) {
      for (const cell of board.querySelectorAll("[data-metric]")) cell.hidden = metric !== "" && cell.dataset.metric !== metric;
      let shown = 0;
      for (const row of board.querySelectorAll("tbody tr")) {
        row.hidden = !has(row);
        shown += !row.hidden;
      }
      const judged = !metric || [...board.querySelectorAll("thead [data-metric]")].some((cell) => !cell.hidden);
      board.hidden = !shown || !judged || (model && board.dataset.model !== model) || (twin && board.dataset.twin !== twin);
    }
    for (const run of document.querySelectorAll("article.run")) run.hidden = !has(run);
  };
  filters.addEventListener("input", apply);
  apply();
}

// Two runs -----------------------------------------------------------------------------------------------------------

function make(tag, given = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(given)) if (value) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

const cell = (value) => value
  ? make("td", { class: `n ${value[2]}` }, make("span", {}, value[0]), ...(value[1] ? [make("small", { class: "d" }, value[1])] : []))
  : make("td", { class: "n" });

const said = (value) => value === true ? "yes" : value === false ? "no" : String(value) || "unknown";

function apart(a, b, words) {
  return Object.keys(words).filter((name) => a[name] !== b[name])
    .map((name) => `${words[name]}: ${said(a[name])} in A, ${said(b[name])} in B`);
}

function table(a, b, protocol) {
  const metrics = new Map();
  for (const arm of [...a, ...b]) for (const [name, value] of Object.entries(arm.metrics)) metrics.set(name, value[0]);
  const names = [...new Set([...a, ...b].map((arm) => arm.method))];
  const scorers = (side, name) => new Set(side.map((arm) => arm.metrics[name] && arm.metrics[name][1]).filter(Boolean));
  const other = [...metrics.keys()].filter((name) => {
    const [x, y] = [scorers(a, name), scorers(b, name)];
    return x.size && y.size && [...x].join() !== [...y].join();
  });
  const kept = [...metrics.keys()].filter((name) => !other.includes(name));
  const head = make("tr", {}, make("th", { scope: "col" }, "method"), make("th", { scope: "col" }, "run"),
    ...kept.map((name) => make("th", { scope: "col", class: "n" }, metrics.get(name))),
    make("th", { scope: "col", class: "n" }, "denoiser calls"), make("th", { scope: "col", class: "n" }, "ms an image"));
  const body = make("tbody");
  for (const name of names) {
    for (const [side, arms] of [["A", a], ["B", b]]) {
      const arm = arms.find((one) => one.method === name);
      if (!arm) continue;
      body.append(make("tr", {}, make("th", { scope: "row" }, name), make("td", {}, side),
        ...kept.map((metric) => cell(arm.metrics[metric] && arm.metrics[metric].slice(2))), cell(arm.calls), cell(arm.time)));
    }
  }
  const title = `${protocol.model}, ${protocol.sampler}, ${protocol.steps} steps, g ${protocol.guidance}`;
  return [make("h2", {}, title), make("p", { class: "foot" }, `${protocol.prompts} · ${protocol.images} images a method · against ${protocol.baseline}`),
    make("div", { class: "scroll", role: "region", "aria-label": title, tabindex: "0" }, make("table", {}, make("thead", {}, head), body)),
    ...other.map((name) => make("p", { class: "foot" }, `${name}: not comparable, for A and B have different scorers (${[...scorers(a, name)]} and ${[...scorers(b, name)]}).`))];
}

function beside(a, b, words) {
  const groups = (run) => {
    const found = new Map();
    for (const arm of run.arms) {
      const key = JSON.stringify(arm.protocol);
      found.set(key, [...(found.get(key) || []), arm]);
    }
    return found;
  };
  const [mine, theirs] = [groups(a), groups(b)];
  const both = [...mine.keys()].filter((key) => theirs.has(key));
  const parts = both.flatMap((key) => table(mine.get(key), theirs.get(key), JSON.parse(key)));
  const only = [...mine.keys()].filter((key) => !theirs.has(key)), rest = [...theirs.keys()].filter((key) => !mine.has(key));
  if (!both.length) parts.push(make("p", { class: "alarm" }, "Not comparable: no protocol of A is one of B."));
  const list = make("ul");
  for (const x of only) for (const y of rest) list.append(make("li", {}, apart(JSON.parse(x), JSON.parse(y), words).join("; ")));
  if (list.children.length) parts.push(make("h2", {}, "Not in one table, and why"), list);
  return parts;
}

const picked = document.querySelector("[data-beside]");
if (picked) {
  const data = JSON.parse(document.getElementById("runs-data").textContent);
  const bySlug = new Map(data.runs.map((run) => [run.slug, run]));
  const side = (name) => picked.querySelector(`[data-side="${name}"]`);
  const draw = () => {
    const [a, b] = ["a", "b"].map((name) => bySlug.get(side(name).value));
    const result = document.querySelector("[data-result]");
    result.replaceChildren(...(!a || !b ? [] : a === b ? [make("p", {}, "Pick two different runs.")] : beside(a, b, data.words)));
    if (a && b) history.replaceState(null, "", `#${a.slug}--${b.slug}`);
  };
  const [a, b] = location.hash.slice(1).split("--");
  if (bySlug.has(a) && bySlug.has(b)) { side("a").value = a; side("b").value = b; }
  picked.hidden = false;
  picked.addEventListener("input", draw);
  draw();
}
})();

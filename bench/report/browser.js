// The list of pairs: filters, sorting, pages, keys. Data comes in as text and goes out as text, never as markup.
const WINDOW = 50; // pairs on the page at a time
const LISTED = 5; // metrics of a pair in the list; an opened pair shows all

const $ = (name) => document.getElementById(`browser-${name}`);
const data = JSON.parse($("data").textContent);
const { methods, metrics, marks, siblings, sets, categories, settings, images } = data;
const BASELINE = 0;

// The pairs that the page itself holds.
const own = data.pairs.map(([setting, set, category, index, seed, prompt, shown, scores, changes = []], at) => {
  const pair = { at, setting, set, category, index, seed, prompt, shown, scores, changes };
  return { ...pair, key: keyOf(pair), text: `${prompt.toLowerCase()}\n${named(pair)}` };
});

function keyOf({ setting, set, index, seed }) {
  return [setting, sets[set], index, seed].map((part) => encodeURIComponent(wellFormed(String(part)))).join("/");
}

function named({ set, category }) {
  return `${sets[set]}\n${categories[category]}`.toLowerCase();
}

// Half a surrogate pair cannot be part of an address.
function wellFormed(text, instead = "\uFFFD") {
  return text.replace(/[\uD800-\uDBFF](?![\uDC00-\uDFFF])|(?<![\uD800-\uDBFF])[\uDC00-\uDFFF]/g, instead);
}

function make(tag, given = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(given)) {
    if (name === "text") element.textContent = value;
    else if (name === "click") element.addEventListener("click", value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null) element.setAttribute(name, value);
  }
  element.append(...children.filter(Boolean));
  return element;
}

// Numbers ------------------------------------------------------------------------------------------------------------

function score(pair, method, metric) {
  const value = pair.score ? pair.score(method, metric) : pair.scores[method] && pair.scores[method][metric];
  return value ?? null;
}

function delta(pair, method, metric) {
  const mine = score(pair, method, metric), base = score(pair, BASELINE, metric);
  return mine === null || base === null ? null : mine - base;
}

// How far a picture is from the baseline's, in % of the whole range.
function changed(pair, method) {
  const value = pair.changes[method];
  return value === undefined ? null : value;
}

// Which side won by the metric's own direction; equal scores tie.
function winner(pair, method, metric) {
  const difference = delta(pair, method, metric);
  if (difference === null) return null;
  return difference === 0 ? "tie" : difference * metrics[metric].sign > 0 ? "method" : "baseline";
}

function number(value, digits, signed = false) {
  if (value === null) return "n/a";
  const text = Math.abs(value).toFixed(digits);
  const zero = Number(text) === 0;
  return (value < 0 && !zero ? "-" : signed && !zero ? "+" : "") + text;
}

// [mark, why] of a metric that is no evidence for a method, or no independent one; null for any other.
function marked(setting, method, metric) {
  const among = (table) => Boolean(table[setting] && table[setting][method].includes(metric));
  if (among(marks)) return ["†", "chosen using this score, so a gain here does not count"];
  return among(siblings) ? ["‡", "a metric that shares labels, a detector or a rule with this one chose or tuned this method"] : null;
}

// One image with its scores ------------------------------------------------------------------------------------------

const absent = (why) => make("span", { class: "browser-absent", text: why });

// The address of an image file; half a surrogate pair in its name becomes what Python makes of it, a question mark.
function address(root, name) {
  return data.roots[root] + wellFormed(name, "?").split("/").map(encodeURIComponent).join("/");
}

// [file, thumbnail, width in pixels] of an image; an empty text for what there is not.
function sources(at) {
  const [root, name, thumb, width] = at < 0 ? [0, "", "", 0] : images[at];
  return [name && address(root, name), thumb, width];
}

// A thumbnail where one is embedded, else the file. Large: the file as soon as it has come, the thumbnail until then.
function picture(at, alt, large = false) {
  const [link, thumb, width] = sources(at);
  if (!link && !thumb) return absent("no image");
  const image = make("img", { alt, loading: thumb ? null : "lazy", decoding: "async", class: width > 0 && width <= 128 ? "pixels" : null });
  image.addEventListener("error", () => image.replaceWith(absent("image file not found")));
  if (!width) image.addEventListener("load", () => image.classList.toggle("pixels", image.naturalWidth <= 128));
  image.src = thumb || link;
  if (large && thumb && link) {
    const whole = new Image();
    whole.addEventListener("load", () => { image.src = link; });
    whole.src = link;
  }
  return image;
}

function scoreRow(pair, method, metric, chosen) {
  const { title, digits, sign } = metrics[metric];
  const change = method === BASELINE ? null : delta(pair, method, metric);
  // What is printed as zero is no alarm, and no success.
  const shown = change === null ? null : number(change, digits, true);
  const tone = change === null || Number(shown) === 0 ? null : change * sign > 0 ? "better" : "worse";
  const mark = marked(pair.setting, method, metric);
  return make("div", { class: chosen ? "chosen" : null },
    make("dt", { text: mark ? `${title} ${mark[0]}` : title, title: mark ? mark[1] : null }),
    make("dd", {}, number(score(pair, method, metric), digits),
      change === null ? null : make("span", { text: shown, class: tone, title: tone })));
}

function card(pair, method, which, { large, click }) {
  const image = picture(pair.shown[method], `${methods[method]}: ${pair.prompt}`, large);
  const name = make("bdi", { text: methods[method] });
  const { metric } = filters();
  const moved = method === BASELINE ? null : changed(pair, method);
  return make("figure", { "data-method": method },
    make("button", { type: "button", class: "browser-shot", tabindex: large ? null : -1, click }, image),
    make("figcaption", {}, name, method === BASELINE ? make("small", { text: " baseline" }) : null,
      moved === null ? null : make("small", { text: ` ${moved.toFixed(1)} % changed`, title: "How far the picture is from the baseline's: mean difference of its pixels" })),
    make("dl", {}, ...which.filter((m) => score(pair, method, m) !== null).map((m) => scoreRow(pair, method, m, m === metric))));
}

const methodsOf = (pair) => methods.map((_, method) => method).filter((m) => pair.shown[m] >= 0 || everyMetric.some((metric) => score(pair, m, metric) !== null));

function place(pair) {
  const parts = [make("bdi", { text: sets[pair.set] }), `, prompt ${pair.index}, seed ${pair.seed}`];
  if (categories[pair.category]) parts.push(", ", make("bdi", { text: categories[pair.category] }));
  if (settings.length > 1 && settings[pair.setting]) parts.push(" · ", make("bdi", { text: settings[pair.setting].label }));
  return parts;
}

// The list -----------------------------------------------------------------------------------------------------------

let pairs = own; // all that there are to choose from: the page's own, or those of the files beside it
let list = pairs; // the pairs that the filters leave, in their order
let start = 0; // the first one on the page
let cursor = -1; // the one that j and k last went to

function listedMetrics() {
  const all = metrics.map((_, metric) => metric), { metric } = filters();
  return all.length <= LISTED || metric < LISTED ? all.slice(0, LISTED) : [...all.slice(0, LISTED - 1), metric];
}

function row(pair, which) {
  if (!here(pair)) return make("li", { class: "browser-row", tabindex: -1 }, absent(`data file not found: ${pair.file}.js`));
  const open = () => openPair(pair);
  return make("li", { class: "browser-row", tabindex: -1, "data-key": pair.key },
    make("div", {},
      make("h3", { class: "browser-text" }, make("button", { type: "button", text: pair.prompt || "(no prompt)", dir: "auto", click: open })),
      make("p", { class: "browser-meta" }, ...place(pair))),
    make("div", { class: "browser-cards" }, ...methodsOf(pair).map((method) => card(pair, method, which, { click: open }))));
}

function show(first, then = () => {}) {
  start = first;
  const end = Math.min(start + WINDOW, list.length), which = listedMetrics(), some = list.slice(start, end);
  whole("list", some, () => {
    $("list").replaceChildren(...some.map((pair) => row(pair, which)));
    then();
  });
  $("pager").hidden = list.length <= WINDOW;
  $("back").disabled = start === 0;
  $("forward").disabled = end === list.length;
  $("page").textContent = list.length ? `${start + 1} to ${end} of ${list.length}` : "";
}

function update(then = () => {}) {
  const given = filters();
  ready(given, () => {
    list = selected(given);
    cursor = -1;
    show(0, then);
    tellCount();
    tellMarked(given);
  });
}

function tellMarked({ metric, method, setting }) {
  const places = marks.map((_, at) => at).filter((at) => setting === null || at === setting);
  const found = metric === null ? [] : places.map((at) => (marked(at, method, metric) || [""])[0]);
  const name = methods[method], title = metric === null ? "" : metrics[metric].title;
  const note = found.includes("†") ? `† ${name} was chosen using ${title}, so a gain there does not count.`
    : found.includes("‡") ? `‡ ${name} was chosen or tuned by a sibling of ${title}: winning there is no independent evidence.` : "";
  $("marked").hidden = !note;
  $("marked").textContent = note;
}

function turn(first) {
  cursor = -1;
  show(first, () => $("list").scrollIntoView({ block: "start" }));
}

// Focus on the pair of this number in the whole list, turning the page where needed.
function go(to) {
  if (to < 0 || to >= list.length) return;
  const first = Math.floor(to / WINDOW) * WINDOW, focus = () => $("list").children[to - start].focus();
  cursor = to;
  if (first !== start) show(first, focus);
  else focus();
}

function step(by) {
  const focused = document.activeElement && document.activeElement.closest(".browser-list > li");
  const at = focused ? start + [...$("list").children].indexOf(focused) : cursor;
  go(at < 0 ? start : at + by);
}

// Keys ---------------------------------------------------------------------------------------------------------------

const listKeys = {
  j: () => step(1),
  k: () => step(-1),
  Enter: () => { if (cursor >= 0 && document.activeElement === $("list").children[cursor - start]) openPair(list[cursor]); },
  "/": () => { $("search").focus(); $("search").select(); },
  b: () => { if (!$("vote").hidden) openBlind(); },
};

function typing(target) {
  return target instanceof HTMLElement && target.matches("select, textarea, input:not([type=checkbox])");
}

function pressed(event) {
  if (event.ctrlKey || event.altKey || event.metaKey || event.defaultPrevented || typing(event.target)) return;
  if (event.key.length === 1 && !$("letters").checked) return;
  const keys = $("blind").open ? blindKeys : $("pair").open ? pairKeys : $("keys").open ? {} : listKeys;
  const act = event.key === "?" ? openKeys : Object.hasOwn(keys, event.key) ? keys[event.key] : null;
  if (!act) return;
  // Enter on a button, a link or a fold is its own.
  if (event.key === "Enter" && event.target.closest("button, a, summary")) return;
  event.preventDefault();
  act();
}

function openKeys() {
  if (!$("keys").open) $("keys").showModal();
}

function begin() {
  $("app").hidden = false;
  $("controls").addEventListener("input", () => update());
  $("controls").addEventListener("submit", (event) => event.preventDefault());
  $("controls").addEventListener("reset", () => setTimeout(update)); // the fields are empty only after this event
  $("back").addEventListener("click", () => turn(start - WINDOW));
  $("forward").addEventListener("click", () => turn(start + WINDOW));
  $("to").addEventListener("change", () => $("to").value && go(Math.min(Math.max(Math.trunc($("to").value), 1), list.length) - 1));
  $("help").addEventListener("click", openKeys);
  $("keys-close").addEventListener("click", () => $("keys").close());
  document.addEventListener("keydown", pressed);
  update();
  beginPair();
  beginBlind();
}

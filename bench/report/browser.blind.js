// Blind A/B votes: the baseline against one method at a time, sides at random, names only after the vote. Images are
// drawn on a canvas, because even an image's address may hold the method's name.
const STORE = `noisebench-votes:${data.suite}:${data.run}`;

let unsaved = []; // votes of this page where the browser keeps nothing for it
let queue = []; // [pair, method] still to be voted on
let ballot = null; // { pair, left, right, voted }
let cast = 0; // votes of this session
let session = 0; // pairs it started with

// Votes --------------------------------------------------------------------------------------------------------------

// The browser may refuse to keep data of a page from disk, or hold something that is no list of votes.
function votes() {
  try {
    const stored = JSON.parse(localStorage.getItem(STORE));
    if (Array.isArray(stored)) return [...stored.filter((vote) => vote && vote.setting && vote.choice), ...unsaved];
  } catch {
    // counted below
  }
  return [...unsaved];
}

function keep(all) {
  try {
    localStorage.setItem(STORE, JSON.stringify(all));
    unsaved = [];
  } catch {
    unsaved = all;
  }
}

function votesFile() {
  return {
    schema: 1, kind: "noisebench votes", suite_id: data.suite, run: data.run, voter: $("voter").value.trim(),
    exported: new Date().toISOString(), votes: votes(),
  };
}

function download() {
  const blob = new Blob([`${JSON.stringify(votesFile(), null, 1)}\n`], { type: "application/json" });
  const link = make("a", { href: URL.createObjectURL(blob), download: `votes-${data.run.replace(/[^\w.-]+/g, "_") || "run"}.json` });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

function tellKept() {
  const count = votes().length;
  $("kept").textContent = `${count} ${count === 1 ? "vote" : "votes"} ` +
    (unsaved.length ? "in this page only: the browser keeps nothing for it, so download them before you leave." : "kept in this browser.");
  $("download").disabled = $("discard").disabled = count === 0;
}

const identity = (setting, set, index, seed, names) => JSON.stringify([setting, set, index, seed, [...names].sort()]);
const settingOf = (pair) => (settings[pair.setting] || { given: {} }).given;

// A session ----------------------------------------------------------------------------------------------------------

function random(below) {
  return crypto.getRandomValues(new Uint32Array(1))[0] % below;
}

function shuffle(items) {
  for (let last = items.length - 1; last > 0; last -= 1) {
    const other = random(last + 1);
    [items[last], items[other]] = [items[other], items[last]];
  }
  return items;
}

function openBlind() {
  stop();
  $("blind").showModal();
}

function beginSession() {
  const rival = choice("rival");
  const rivals = methods.map((_, method) => method).filter((m) => m !== BASELINE && (rival === null || m === rival));
  const done = new Set(votes().map((v) => identity(v.setting, v.prompts, v.index, v.seed, [v.left, v.right])));
  const open = [];
  for (const pair of placed(own, filters())) {
    for (const method of rivals) {
      const names = [methods[BASELINE], methods[method]];
      if (!there(pair, BASELINE) || !there(pair, method)) continue;
      if (!done.has(identity(settingOf(pair), sets[pair.set], pair.index, pair.seed, names))) open.push([pair, method]);
    }
  }
  queue = shuffle(open);
  cast = 0;
  session = queue.length;
  $("start").hidden = true;
  $("ballot").hidden = false;
  present();
}

const there = (pair, method) => pair.shown[method] >= 0 && images[pair.shown[method]][1] !== "";

function present() {
  const next = queue.pop();
  if (!next) {
    stop(session ? "" : "No pair is left to vote on.");
    return;
  }
  const [pair, method] = next, swap = random(2) === 1;
  ballot = { pair, left: swap ? method : BASELINE, right: swap ? BASELINE : method, voted: null };
  $("question").textContent = pair.prompt;
  $("sides").replaceChildren(...["left", "right"].map(side));
  $("outcome").replaceChildren();
  for (const button of $("choices").children) {
    button.disabled = false;
    button.setAttribute("aria-pressed", "false");
  }
  $("skip").firstChild.data = "Skip ";
  $("progress").textContent = `${session - queue.length} of ${session}`;
  $("blind").scrollTop = 0;
}

function side(name) {
  const canvas = make("canvas", { role: "img", "aria-label": `${name} image`, width: 64, height: 64 });
  const [link, thumb] = sources(ballot.pair.shown[ballot[name]]);
  draw(canvas, [link, thumb].filter(Boolean));
  return make("figure", { "data-side": name }, canvas, make("figcaption", {}));
}

// The file, or the thumbnail where there is none.
function draw(canvas, tried) {
  const image = new Image();
  image.addEventListener("load", () => {
    canvas.width = image.naturalWidth;
    canvas.height = image.naturalHeight;
    canvas.classList.toggle("pixels", image.naturalWidth <= 128);
    canvas.getContext("2d").drawImage(image, 0, 0);
    canvas.dataset.drawn = "yes";
  });
  image.addEventListener("error", () => {
    if (tried.length > 1) draw(canvas, tried.slice(1));
    else canvas.replaceWith(absent("image file not found"));
  });
  image.src = tried[0];
}

function vote(decision) {
  if (!ballot || ballot.voted) return;
  const { pair, left, right } = ballot;
  ballot.voted = decision;
  cast += 1;
  keep([...votes(), {
    setting: settingOf(pair), prompts: sets[pair.set], index: pair.index, seed: pair.seed, prompt: pair.prompt,
    left: methods[left], right: methods[right], choice: decision, at: new Date().toISOString(),
    images: Object.fromEntries([left, right].map((method) => [methods[method], images[pair.shown[method]][1]])),
  }]);
  tellKept();
  if ($("reveal").checked) reveal();
  else present();
}

function reveal() {
  const { pair, left, right, voted } = ballot;
  for (const figure of $("sides").children) {
    const method = figure.dataset.side === "left" ? left : right;
    figure.querySelector("figcaption").append(make("bdi", { text: methods[method] }), method === BASELINE ? " (baseline)" : "");
    const shown = everyMetric.filter((metric) => score(pair, method, metric) !== null);
    figure.append(make("dl", {}, ...shown.map((metric) => scoreRow(pair, method, metric, false))));
  }
  for (const button of $("choices").children) {
    button.disabled = true;
    button.setAttribute("aria-pressed", String(button.dataset.choice === voted));
  }
  const said = voted === "tie" ? "You called it a tie." : `You chose ${methods[voted === "left" ? left : right]}.`;
  $("outcome").replaceChildren(make("p", { text: said }));
  $("skip").firstChild.data = "Next ";
  $("skip").focus();
}

function stop(said = "") {
  ballot = null;
  queue = [];
  $("question").textContent = "";
  $("sides").replaceChildren();
  $("outcome").replaceChildren();
  $("progress").textContent = said;
  $("ballot").hidden = true;
  $("start").hidden = false;
  tally();
  tellKept();
}

// What all kept votes say, shown only between sessions.
function tally() {
  const count = new Map();
  for (const { left, right, choice: chosen } of votes()) {
    const rival = left === methods[BASELINE] ? right : left;
    const counts = count.get(rival) || { won: 0, tie: 0, lost: 0 };
    const took = chosen === "tie" ? "tie" : (chosen === "left" ? left : right) === rival ? "won" : "lost";
    counts[took] += 1;
    count.set(rival, counts);
  }
  const cells = (tag, texts) => make("tr", {}, ...texts.map((text, at) => make(at ? tag : "th", { text, scope: tag === "th" ? "col" : at ? null : "row" })));
  const rows = [...count].map(([rival, { won, tie, lost }]) => cells("td", [rival, won, tie, lost]));
  $("tally").replaceChildren(...(rows.length
    ? [make("table", {}, make("thead", {}, cells("th", ["Your votes", "won", "tie", "lost"])), make("tbody", {}, ...rows))]
    : []));
}

const blindKeys = {
  1: () => vote("left"),
  2: () => vote("right"),
  3: () => vote("tie"),
  ArrowRight: () => { if (ballot) present(); },
};

function beginBlind() {
  $("rival").append(make("option", { value: "", text: "any method" }),
    ...methods.slice(1).map((name, at) => make("option", { value: at + 1, text: name })));
  $("vote").addEventListener("click", openBlind);
  $("start").addEventListener("submit", (event) => { event.preventDefault(); beginSession(); });
  $("choices").addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button) vote(button.dataset.choice);
  });
  $("skip").addEventListener("click", present);
  $("end").addEventListener("click", () => stop());
  $("blind-close").addEventListener("click", () => $("blind").close());
  $("blind").addEventListener("close", () => stop());
  $("download").addEventListener("click", download);
  $("discard").addEventListener("click", () => {
    if (!window.confirm("Delete all votes on this run that this browser holds?")) return;
    unsaved = [];
    keep([]);
    stop();
  });
  window.addEventListener("beforeunload", (event) => { if (unsaved.length) event.preventDefault(); });
  tellKept();
}

begin();

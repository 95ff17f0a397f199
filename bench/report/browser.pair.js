// One pair, opened: by a click, by keys, or by an address that ends in #pair=SETTING/SET/INDEX/SEED.
let opened = null;

const everyMetric = metrics.map((_, metric) => metric);

function openPair(pair) {
  whole("pair", [pair], () => { if (here(pair)) drawPair(pair); });
}

function drawPair(pair) {
  opened = pair;
  leaveZoom();
  $("prompt").textContent = pair.prompt;
  $("meta").replaceChildren(...place(pair));
  const shown = methodsOf(pair);
  $("cards").replaceChildren(
    ...shown.map((method) => card(pair, method, everyMetric, { large: true, click: () => enlarge(method) })));
  $("cards").hidden = false;
  const at = list.indexOf(pair);
  $("position").textContent = at < 0 ? "not among the pairs chosen" : `${at + 1} of ${list.length}`;
  $("previous").disabled = at <= 0;
  $("next").disabled = at < 0 || at + 1 >= list.length;
  $("link").setAttribute("href", `#pair=${pair.key}`);
  rename(`#pair=${pair.key}`);
  if (!$("pair").open) $("pair").showModal();
  $("pair").scrollTop = 0;
}

function another(by) {
  if (enlarged !== null) {
    const shown = methodsOf(opened);
    enlarge(shown[(shown.indexOf(enlarged) + by + shown.length) % shown.length]);
    return;
  }
  const to = list[list.indexOf(opened) + by];
  if (list.includes(opened) && to) openPair(to);
}

const pairKeys = {
  ArrowRight: () => another(1),
  ArrowLeft: () => another(-1),
  j: () => another(1),
  k: () => another(-1),
  ...viewKeys,
};

// A page from disk may refuse to change its own address; the link in the dialog still has it.
function rename(fragment) {
  try {
    history.replaceState(null, "", fragment || location.pathname + location.search);
  } catch {
    // nothing is lost
  }
}

function follow() {
  const found = /^#pair=(.+)$/.exec(location.hash);
  if (!found) return;
  const pair = pairs.find(({ key }) => key === found[1]) || pairs.find(({ key }) => same(key, found[1]));
  if (!pair && beside && pairs === own && $("among").value !== "all") {
    $("among").value = "all";
    update(() => { if (pairs !== own) follow(); });
    return;
  }
  if (!pair) {
    $("count").textContent = "The address names a pair that this report does not hold.";
    $("title").scrollIntoView();
    return;
  }
  if (pairs === own && !list.includes(pair)) {
    $("controls").reset();
    update();
  }
  openPair(pair);
}

// Mail programs and browsers write the same address with other characters escaped.
function same(key, given) {
  try {
    return decodeURIComponent(key) === decodeURIComponent(given);
  } catch {
    return false;
  }
}

function beginPair() {
  $("previous").addEventListener("click", () => another(-1));
  $("next").addEventListener("click", () => another(1));
  $("close").addEventListener("click", () => $("pair").close());
  $("pair").addEventListener("cancel", (event) => {
    if (enlarged === null) return;
    event.preventDefault();
    reduce();
  });
  $("pair").addEventListener("close", () => {
    rename("");
    const at = list.indexOf(opened);
    if (at >= 0) go(at); // where reading stopped
    leaveZoom();
    opened = null;
  });
  window.addEventListener("hashchange", follow);
  follow();
}

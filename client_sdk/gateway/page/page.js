// The gateway's page: what is served, a place to try it, and what goes through. It asks the routes that everybody has.

const LIVE_EVERY = 2000; // milliseconds
const TABLE_EVERY = 5; // of those
const POINTS = 60; // of a curve
const HEAT_MOST = 30; // texts, beyond which a heat map is a wall
const KEY = "bert-on-triton-key";

const $ = (id) => document.getElementById(id);
const number = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const key = $("key");
let families = [];

/** An element; what `children` holds is text, never HTML. */
function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

async function ask(path, body) {
  const headers = key.value ? { authorization: `Bearer ${key.value}` } : {};
  if (body) headers["content-type"] = "application/json";
  const reply = await fetch(path, { method: body ? "POST" : "GET", headers, body: body && JSON.stringify(body) });
  if (reply.status === 401) $("key-field").hidden = false;
  if (!reply.ok) {
    const said = await reply.json().catch(() => ({}));
    throw new Error(said.error?.message ?? said.error ?? said.message ?? `${path}: status ${reply.status}`);
  }
  return reply;
}

const json = async (path, body) => (await ask(path, body)).json();

// What is served

async function showFamilies() {
  families = (await json("v1/models")).data;
  offerFamilies();
  $("families").tBodies[0].replaceChildren(
    ...families.map((family) =>
      element(
        "tr",
        {},
        element("th", { scope: "row" }, family.id),
        element("td", {}, family.gives.join(", ")),
        element("td", { className: "number" }, family.dimensions ?? ""),
        element("td", { className: "number" }, family.max_model_len),
        element("td", {}, [...family.labels, ...family.prompts].join(", ")),
        element("td", {}, family.versions.join(", ")),
        element("td", { className: family.ready === false ? "bad" : "" }, READY[family.ready]),
      ),
    ),
  );
}

/** Those to choose from, if they are others than before: a list that is open is not taken from whoever chooses. */
function offerFamilies() {
  const model = $("model");
  const [before, now] = [[...model.options].map(({ value }) => value), families.map(({ id }) => id)];
  if (before.join("\n") === now.join("\n")) return;
  const chosen = model.value;
  model.replaceChildren(...now.map((id) => element("option", {}, id)));
  if (now.includes(chosen)) model.value = chosen;
  else showChoices();
  if (!before.length) $("error").hidden = true; // which said that there is none
}

const READY = { true: "yes", false: "no", null: "not told" };

/** What the chosen family leaves to choose. */
function showChoices() {
  const { prompts = [], gives = [] } = family() ?? {};
  $("prompt").replaceChildren(
    element("option", { value: "" }, "the model's own"),
    ...prompts.map((name) => element("option", { value: name }, name)),
  );
  $("prompt-field").hidden = prompts.length === 0;
  $("kind").replaceChildren(...gives.map((kind) => element("option", {}, kind)));
  $("kind-field").hidden = gives.length < 2;
}

const family = () => families.find(({ id }) => id === $("model").value);

async function showReady() {
  const place = $("ready");
  const error = await ask("health/ready").then(() => null, (error) => error);
  const said = error ? `not ready: ${error.message}` : "ready: a text was answered just now";
  place.className = error ? "bad" : "";
  if (place.textContent !== said) place.textContent = said; // which is read out
}

// A place to try

async function answer() {
  const texts = $("texts").value.split("\n").map((text) => text.trim()).filter(Boolean);
  const query = $("query").value.trim();
  if (!texts.length) throw new Error("there is no text: write some, one a line");
  const model = $("prompt").value ? `${$("model").value}-${$("prompt").value}` : $("model").value;
  const kind = $("kind").value;
  if (!(kind in HOW)) throw new Error(`${family().id} gives ${kind}, which this page cannot show`);
  return HOW[kind](model, texts, query);
}

const HOW = {
  vectors: async (model, texts, query) => {
    const inputs = query ? [query, ...texts] : texts;
    const [reply, tokens] = await Promise.all([
      json("v1/embeddings", { model, input: inputs }),
      json("page/tokens", { model, inputs }),
    ]);
    const vectors = reply.data.map(({ embedding }) => embedding);
    const likeness = (a, b) => cosine(vectors[a], vectors[b]);
    const parts = [tokensOf(inputs, tokens), note(`${reply.usage.total_tokens} tokens were computed.`)];
    if (query) {
      const ranked = texts.map((text, index) => [likeness(0, index + 1), text]).sort((a, b) => b[0] - a[0]);
      parts.unshift(ranking("Nearest to the query, by cosine", ranked));
    }
    if (inputs.length > HEAT_MOST) parts.push(note(`A heat map is drawn of up to ${HEAT_MOST} texts.`));
    else if (inputs.length > 1) parts.unshift(heat(inputs, likeness));
    return parts;
  },
  "one score": async (model, texts, query) => {
    if (!query) throw new Error(`${model} scores texts by a query: write one`);
    const { results } = await json("v1/rerank", { model, query, documents: texts });
    return [ranking("By the query", results.map(({ index, relevance_score }) => [relevance_score, texts[index]]))];
  },
  "scores of labels": async (model, texts) => {
    const labelled = await json("predict", { model, inputs: texts.map((text) => [text]) });
    return labelled.map((labels, index) => ranking(texts[index], labels.map(({ score, label }) => [score, label])));
  },
  "sparse vectors": async (model, texts) => {
    const found = await json("embed_sparse", { model, inputs: texts });
    return found.flatMap((words, index) => {
      const best = words.sort((a, b) => b.value - a.value).slice(0, 10);
      return ranking(texts[index], best.map((word) => [word.value, `token id ${word.index}`]));
    });
  },
  "vectors for late interaction": async (model, texts, query) => {
    if (!query) throw new Error(`${model} compares texts with a query: write one`);
    const vectors = async (input, input_type) => {
      const { data } = await json("v1/multi-vector", { model: family().id, input, input_type });
      return data.map(({ embeddings }) => embeddings);
    };
    const [[asked], documents] = await Promise.all([vectors([query], "query"), vectors(texts, "document")]);
    const ranked = texts.map((text, index) => [maxsim(asked, documents[index]), text]).sort((a, b) => b[0] - a[0]);
    return [ranking("Best for the query, by maxsim", ranked)];
  },
};

const dot = (a, b) => a.reduce((sum, value, place) => sum + value * b[place], 0);
const maxsim = (query, document) =>
  query.reduce((sum, token) => sum + Math.max(...document.map((other) => dot(token, other))), 0);

function cosine(a, b) {
  let [product, left, right] = [0, 0, 0];
  for (let place = 0; place < a.length; place++) {
    product += a[place] * b[place];
    left += a[place] ** 2;
    right += b[place] ** 2;
  }
  return product / Math.sqrt(left * right) || 0;
}

const title = (text) => element("h3", {}, text);
const note = (text) => element("p", { className: "note" }, text);

/** A table that scrolls for itself on a narrow screen, by keyboard too. */
function scrolling(label, table) {
  const wide = element("div", { className: "wide", tabIndex: 0 }, table);
  wide.setAttribute("role", "region");
  wide.setAttribute("aria-label", label);
  return wide;
}

function ranking(label, rows) {
  const table = element("table");
  for (const [score, text] of rows) {
    table.insertRow().append(element("td", { className: "number" }, score.toFixed(4)), element("td", {}, text));
  }
  return element("section", {}, title(label), scrolling(label, table));
}

function heat(texts, likeness) {
  const label = "Similarity, by cosine";
  const table = element("table", { className: "heat" });
  const places = [...texts.keys()];
  table.append(
    element("thead", {}, element("tr", {}, element("td"), ...places.map((at) => heading("col", `${at + 1}`)))),
    element(
      "tbody",
      {},
      ...places.map((row) =>
        element("tr", {}, heading("row", `${row + 1} ${texts[row]}`), ...places.map((at) => cell(likeness(row, at)))),
      ),
    ),
  );
  return element("section", {}, title(label), scrolling(label, table));

  function heading(scope, text) {
    return element("th", { scope }, text);
  }
  function cell(value) {
    const made = element("td", {}, value.toFixed(2));
    made.style.setProperty("--value", Math.max(value, 0));
    return made;
  }
}

function tokensOf(texts, tokens) {
  const label = "Tokens";
  const rows = texts.map((_, index) => {
    const { count, tokens: found } = tokens[index];
    const used = found.map((token) =>
      element("span", { className: token.special ? "token special" : "token" }, token.text),
    );
    const cut = count - found.length;
    const said = cut > 0 ? element("strong", {}, ` ${cut} more were cut off`) : "";
    return element("li", {}, ...used, said);
  });
  return element("section", {}, title(label), element("ol", {}, ...rows));
}

$("try").addEventListener("submit", async (event) => {
  event.preventDefault();
  const [button, error] = [event.submitter ?? $("try").querySelector("button"), $("error")];
  button.disabled = true;
  error.hidden = true;
  try {
    $("answer").replaceChildren(...(await answer()));
  } catch (failure) {
    $("answer").replaceChildren();
    error.textContent = failure.message;
    error.hidden = false;
  }
  button.disabled = false;
});

// What goes through

const FIGURES = {
  "requests a second": (now, before, seconds) => rate(now, before, "requests_total", seconds),
  "texts a second": (now, before, seconds) => rate(now, before, "texts_total", seconds),
  "tokens a second": (now, before, seconds) => rate(now, before, "tokens_total", seconds),
  "latency, median, ms": (now, before) => quantile(now, before, 0.5),
  "latency, 99 in 100 below, ms": (now, before) => quantile(now, before, 0.99),
  "being answered": (now) => sum(now, "requests_in_flight"),
};
const curves = Object.fromEntries(Object.keys(FIGURES).map((name) => [name, []]));
let before = null;

/** The samples of the gateway's own metrics: [name without its prefix, labels, value]. */
function samples(text) {
  return [...text.matchAll(/^bert_gateway_(\w+)(\{.*\})? (\S+)$/gm)].map(([, name, labels, value]) => [
    name,
    labels ?? "",
    Number(value),
  ]);
}

const of = (found, name) => found.filter((sample) => sample[0] === name);
const sum = (found, name) => of(found, name).reduce((total, [, , value]) => total + value, 0);
/** A gateway that has been started again counts from 0. */
const rate = (now, before, name, seconds) => Math.max(sum(now, name) - sum(before, name), 0) / seconds;

/** Milliseconds below which this part of the requests of the last moments took, as far as the buckets say. */
function quantile(now, before, part) {
  const counts = new Map();
  for (const [found, sign] of [[now, 1], [before, -1]]) {
    for (const [, labels, value] of of(found, "request_seconds_bucket")) {
      const limit = Number(labels.match(/le="([^"]+)"/)[1].replace("+Inf", "Infinity"));
      counts.set(limit, (counts.get(limit) ?? 0) + sign * value);
    }
  }
  const limits = [...counts].sort(([a], [b]) => a - b);
  const all = limits.at(-1)?.[1] ?? 0;
  let [floor, below] = [0, 0];
  for (const [limit, count] of limits) {
    if (all > 0 && count >= part * all) {
      const top = Number.isFinite(limit) ? limit : floor;
      return 1000 * (floor + ((top - floor) * (part * all - below)) / (count - below || 1));
    }
    [floor, below] = [limit, count];
  }
  return NaN;
}

async function showLive() {
  const text = await (await ask("metrics")).text();
  const now = { at: performance.now(), samples: samples(text) };
  if (before) {
    const seconds = (now.at - before.at) / 1000;
    $("live").replaceChildren(
      ...Object.entries(FIGURES).map(([name, figure]) => {
        const value = figure(now.samples, before.samples, seconds);
        const curve = curves[name];
        curve.push(value);
        if (curve.length > POINTS) curve.shift();
        const shown = Number.isFinite(value) ? number.format(value) : "–";
        return element("div", {}, element("dt", {}, name), element("dd", {}, shown, drawn(curve)));
      }),
    );
  }
  before = now;
}

function drawn(values) {
  const most = Math.max(...values.filter(Number.isFinite), 1e-9);
  const points = values.map((value, at) => `${at},${30 - 28 * ((value || 0) / most)}`).join(" ");
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", `0 0 ${POINTS - 1} 32`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  const line = document.createElementNS("http://www.w3.org/2000/svg", "polyline");
  line.setAttribute("points", points);
  line.setAttribute("vector-effect", "non-scaling-stroke");
  svg.append(line);
  return svg;
}

// The beginning

let refreshed = 0;

async function refresh() {
  if (document.hidden) return;
  const failed = await showLive().then(() => "", (error) => `There are no metrics: ${error.message}`);
  $("live-error").textContent = failed;
  $("live-error").hidden = !failed;
  if (++refreshed % TABLE_EVERY === 0) await Promise.all([showReady(), showFamilies().catch(() => {})]); // what was known stays
}

async function start() {
  await Promise.all([
    showReady(),
    showFamilies().catch((error) => {
      $("error").textContent = error.message;
      $("error").hidden = false;
    }),
    refresh(),
  ]);
}

key.value = sessionStorage.getItem(KEY) ?? "";
key.addEventListener("change", () => {
  sessionStorage.setItem(KEY, key.value);
  start();
});
$("model").addEventListener("change", showChoices);
setInterval(refresh, LIVE_EVERY);
start();

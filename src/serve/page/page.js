// The conversation page of `fovea serve`. What a model says is untrusted: it only ever becomes text nodes and numbers.
"use strict";

const $ = (id) => document.getElementById(id);
const element = (name, properties = {}, ...children) => {
  const node = Object.assign(document.createElement(name), properties);
  node.append(...children);
  return node;
};
const svg = (name, attributes) => {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  return node;
};

const MARKS = ["#e4572e", "#17bebb", "#ffc914", "#9b5de5", "#76b041", "#f15bb5", "#4ea5d9", "#ff9f1c"];
const METRICS_EVERY_MS = 3000;

const state = {
  model: "",
  messages: [],     // as they are sent
  attached: [],     // {kind, name, url, node}: what goes with the next message
  answering: null,  // AbortController while an answer comes
};

// --- talking to the server ------------------------------------------------------------------------------------------

function headers() {
  const key = settings().key;
  return { "Content-Type": "application/json", ...(key ? { Authorization: `Bearer ${key}` } : {}) };
}

// The server's own words where it has some.
async function failure(response) {
  try {
    const error = (await response.json()).error;
    if (error && error.message) return error.message;
  } catch { /* no JSON: the status must do */ }
  return `the server answered ${response.status} ${response.statusText}`;
}

async function get(path) {
  const response = await fetch(path, { headers: headers() });
  if (!response.ok) throw new Error(await failure(response));
  return response;
}

function settings() {
  const form = new FormData($("sampling"));
  const numbers = {};
  for (const name of ["temperature", "top_p", "top_k", "repetition_penalty", "seed", "max_tokens"]) {
    const text = form.get(name).trim();
    if (text !== "" && Number.isFinite(Number(text))) numbers[name] = Number(text);
  }
  const pixels = form.get("max_pixels").trim();
  return {
    numbers, system: form.get("system"), key: form.get("key"),
    maxPixels: pixels !== "" && Number.isFinite(Number(pixels)) ? Number(pixels) : null,
  };
}

function conversation() {
  const { system } = settings();
  return system.trim() === "" ? state.messages : [{ role: "system", content: system }, ...state.messages];
}

// Yields the objects of an event stream.
async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  while (true) {
    const { done, value } = await reader.read();
    if (done) return;
    text += value.replaceAll("\r\n", "\n");
    for (let end = text.indexOf("\n\n"); end >= 0; end = text.indexOf("\n\n")) {
      const lines = text.slice(0, end).split("\n").filter((line) => line.startsWith("data:"));
      text = text.slice(end + 2);
      const data = lines.map((line) => line.slice(5).trimStart()).join("\n");
      if (data === "[DONE]") return;
      if (data !== "") yield JSON.parse(data);
    }
  }
}

// How the server will resize the pictures of this conversation, and what they cost; null where it does not say.
async function geometry(messages) {
  try {
    const response = await fetch("v1/chat/completions/input_tokens", {
      method: "POST", headers: headers(), body: JSON.stringify({ model: state.model, messages }),
    });
    const pictures = response.ok ? (await response.json()).pictures : null;
    return Array.isArray(pictures) ? pictures : null;
  } catch {
    return null;
  }
}

// --- boxes that an answer names -------------------------------------------------------------------------------------

// Qwen2.5-VL names places as {"bbox_2d": [x1, y1, x2, y2], "label": ...} or {"point_2d": [x, y], ...}, in pixels of
// the resized picture.
function marksIn(text) {
  const marks = [];
  for (const [object] of text.matchAll(/\{[^{}]*"(?:bbox_2d|point_2d)"[^{}]*\}/g)) {
    try {
      const { bbox_2d: box, point_2d: point, label } = JSON.parse(object);
      const numbers = box ?? point;
      if (!Array.isArray(numbers) || numbers.length !== (box ? 4 : 2) || !numbers.every(Number.isFinite)) continue;
      marks.push({ numbers, label: typeof label === "string" ? label : "" });
    } catch { /* not yet whole, or no JSON */ }
  }
  return marks;
}

function drawMarks(marks, picture) {
  const width = picture.resized_width || picture.width, height = picture.resized_height || picture.height;
  const layer = svg("svg", { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", "aria-hidden": "true" });
  const labels = element("ul", { className: "labels" });
  marks.forEach(({ numbers, label }, index) => {
    const colour = MARKS[index % MARKS.length];
    if (numbers.length === 4) {
      const [x1, y1, x2, y2] = numbers;
      layer.append(svg("rect", { x: Math.min(x1, x2), y: Math.min(y1, y2), width: Math.abs(x2 - x1),
                                 height: Math.abs(y2 - y1), stroke: colour }));
    } else {
      layer.append(svg("circle", { cx: numbers[0], cy: numbers[1], r: Math.max(width, height) / 100, fill: colour }));
    }
    const item = element("li", {}, `${label || "unnamed"} (${numbers.map((n) => Math.round(n)).join(", ")})`);
    item.style.setProperty("--mark", colour);
    labels.append(item);
  });
  return element("figure", {},
    element("div", { className: "frame" }, element("img", { src: picture.url, alt: "The picture, with what the answer names" }), layer),
    labels);
}

// --- turns ----------------------------------------------------------------------------------------------------------

function addTurn(who, className) {
  $("welcome").hidden = true;
  const text = element("div", { className: "text" });
  const turn = element("article", { className: `turn ${className}` }, element("p", { className: "who" }, who), text);
  $("turns").append(turn);
  return { turn, text };
}

// The end stays in view while the reader stays at it.
let follows = true;
$("conversation").addEventListener("scroll", () => {
  const box = $("conversation");
  follows = box.scrollHeight - box.scrollTop - box.clientHeight < 80;
});
function scrollDown(always = false) {
  follows ||= always;
  if (follows) $("conversation").scrollTop = $("conversation").scrollHeight;
}
new ResizeObserver(() => scrollDown()).observe($("turns"));

// Fenced blocks become <pre>; everything else stays as it was said.
function showText(node, text) {
  node.replaceChildren();
  text.split(/```/).forEach((part, index) => {
    if (part === "") return;
    if (index % 2 === 0) return node.append(part);
    node.append(element("pre", {}, part.replace(/^[^\n]*\n/, "").trimEnd()));
  });
}

function mediaNode(item) {
  if (item.kind === "video") return element("video", { src: item.url, controls: true, preload: "metadata" });
  return element("img", { src: item.url, alt: item.name });
}

function describe(picture) {
  if (!picture) return "";
  return ` · ${picture.width} × ${picture.height} seen as ${picture.resized_width} × ${picture.resized_height}, ${picture.tokens} tokens`;
}

function showQuestion(question, items) {
  const { turn, text } = addTurn("You", "user");
  text.append(question);
  if (items.length === 0) return [];
  const media = element("div", { className: "media" });
  const captions = items.map((item) => {
    const caption = element("figcaption", {}, item.name);
    media.append(element("figure", {}, element("div", { className: "frame" }, mediaNode(item)), caption));
    return caption;
  });
  turn.append(media);
  return captions;
}

// The pictures that an answer can point at: those of the last question that had some.
function shownPictures() {
  for (let i = state.messages.length - 1; i >= 0; --i) {
    if (state.messages[i].shown && state.messages[i].shown.length > 0) return state.messages[i].shown;
  }
  return [];
}

class AnswerView {
  constructor() {
    ({ turn: this.turn, text: this.node } = addTurn(state.model || "assistant", "assistant waiting"));
    this.foot = element("div", { className: "foot quiet" });
    this.drawn = element("div", { className: "media" });
    this.turn.append(this.drawn, this.foot);
    this.text = "";
    this.picture = 0;
    this.marks = 0;
  }
  add(piece) {
    this.text += piece;
    showText(this.node, this.text);
    this.draw();
    scrollDown();
  }
  draw(again = false) {
    const pictures = shownPictures(), marks = marksIn(this.text);
    if (pictures.length === 0 || (marks.length === this.marks && !again)) return;
    this.marks = marks.length;
    this.drawn.replaceChildren(drawMarks(marks, pictures[this.picture]));
    if (pictures.length < 2) return;
    const choice = element("select", { ariaLabel: "Picture that the boxes are drawn on" },
      ...pictures.map((picture, i) => element("option", { value: i, selected: i === this.picture }, picture.name)));
    choice.addEventListener("change", () => { this.picture = Number(choice.value); this.draw(true); });
    this.drawn.append(choice);
  }
  end(words) {
    this.turn.classList.remove("waiting");
    const copy = element("button", { type: "button" }, "Copy");
    copy.addEventListener("click", async () => {
      await navigator.clipboard.writeText(this.text);
      copy.textContent = "Copied";
      setTimeout(() => { copy.textContent = "Copy"; }, 1500);
    });
    this.foot.replaceChildren(...(this.text ? [copy] : []), words);
  }
  fail(words) {
    this.turn.classList.remove("waiting");
    this.turn.classList.add("failed");
    this.foot.replaceChildren(words);
  }
}

function summary(usage, seconds, finish) {
  if (!usage) return finish === "stop" ? "" : `ended: ${finish}`;
  const cached = usage.prompt_tokens_details?.cached_tokens ?? 0;
  const parts = [`${usage.prompt_tokens} tokens asked${cached ? ` (${cached} known)` : ""}`,
                 `${usage.completion_tokens} answered in ${seconds.toFixed(1)} s`];
  if (finish && finish !== "stop") parts.push(`ended: ${finish}`);
  return parts.join(" · ");
}

// --- asking ---------------------------------------------------------------------------------------------------------

function contentOf(question, items) {
  if (items.length === 0) return question;
  const { maxPixels } = settings();
  const limits = maxPixels === null ? {} : { max_pixels: maxPixels };
  return [...items.map((item) => item.kind === "video"
            ? { type: "video_url", video_url: { url: item.url }, ...limits }
            : { type: "image_url", image_url: { url: item.url }, ...limits }),
          { type: "text", text: question }];
}

function toSend(messages) {
  return messages.map(({ role, content }) => ({ role, content }));
}

async function measure(captions, message, items) {
  const pictures = await geometry(toSend(conversation()));
  if (!pictures) return;
  const own = pictures.slice(pictures.length - items.length);
  own.forEach((picture, i) => {
    captions[i].textContent = items[i].name + describe(picture);
    if (items[i].kind === "image") Object.assign(message.shown.find((p) => p.url === items[i].url), picture);
  });
}

function setAnswering(controller) {
  state.answering = controller;
  $("send").hidden = controller !== null;
  $("stop").hidden = controller === null;
  $("new").disabled = controller !== null;
}

async function ask(question, items) {
  const message = { role: "user", content: contentOf(question, items), shown: [] };
  for (const item of items.filter(({ kind }) => kind === "image")) {
    message.shown.push({ url: item.url, name: item.name, width: item.width, height: item.height });
  }
  state.messages.push(message);
  const captions = showQuestion(question, items);
  const view = new AnswerView();
  scrollDown(true);
  const controller = new AbortController();
  setAnswering(controller);
  const started = performance.now();
  let usage = null, finish = null;
  try {
    if (items.length > 0) await measure(captions, message, items);
    const response = await fetch("v1/chat/completions", {
      method: "POST", headers: headers(), signal: controller.signal,
      body: JSON.stringify({ model: state.model, messages: toSend(conversation()), stream: true,
                             stream_options: { include_usage: true }, ...settings().numbers }),
    });
    if (!response.ok) throw new Error(await failure(response));
    for await (const event of events(response.body)) {
      if (event.error) throw new Error(event.error.message);
      usage = event.usage ?? usage;
      const choice = event.choices[0];
      if (choice?.delta?.content) view.add(choice.delta.content);
      finish = choice?.finish_reason ?? finish;
    }
    if (finish === null) throw new Error("the connection ended before the answer did");
    view.end(summary(usage, (performance.now() - started) / 1000, finish));
  } catch (error) {
    if (error.name === "AbortError") view.end("stopped");
    else view.fail(error.message);
  }
  // A question that got no answer is not part of the conversation.
  if (view.text === "") state.messages.pop();
  else state.messages.push({ role: "assistant", content: view.text });
  setAnswering(null);
  $("question").focus();
}

// --- pictures and videos --------------------------------------------------------------------------------------------

const dataUrl = (file) => new Promise((resolve, reject) => {
  const reader = new FileReader();
  reader.onload = () => resolve(reader.result);
  reader.onerror = () => reject(new Error(`${file.name} cannot be read`));
  reader.readAsDataURL(file);
});

async function sizeOf(item) {
  if (item.kind !== "image") return item;
  const image = new Image();
  image.src = item.url;
  try {
    await image.decode();
    return Object.assign(item, { width: image.naturalWidth, height: image.naturalHeight });
  } catch {
    return Object.assign(item, { width: 1, height: 1 });  // a kind the browser cannot show; the server may read it
  }
}

async function attach(files) {
  for (const file of files) {
    const kind = file.type.startsWith("video/") ? "video" : file.type.startsWith("image/") ? "image" : null;
    if (kind === null) {
      say(`${file.name} is neither a picture nor a video`);
      continue;
    }
    try {
      const item = await sizeOf({ kind, name: file.name || "pasted picture", url: await dataUrl(file) });
      const remove = element("button", { type: "button", ariaLabel: `Remove ${item.name}` }, "Remove");
      item.node = element("li", {}, mediaNode(item), item.name, element("br"), remove);
      remove.addEventListener("click", () => {
        state.attached = state.attached.filter((other) => other !== item);
        item.node.remove();
        $("question").focus();
      });
      state.attached.push(item);
      $("attached").append(item.node);
    } catch (error) {
      say(error.message);
    }
  }
}

function say(words) { $("status").textContent = words; }

// --- the side panel -------------------------------------------------------------------------------------------------

function showPairs(list, pairs) {
  list.replaceChildren(...pairs.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, String(value))]));
}

// Prometheus' text: sums a metric over its labels.
function metricsIn(text) {
  const sums = new Map();
  for (const line of text.split("\n")) {
    const found = line.match(/^([a-zA-Z_:][\w:]*)(?:\{[^}]*\})? (\S+)/);
    if (found) sums.set(found[1], (sums.get(found[1]) ?? 0) + Number(found[2]));
  }
  return sums;
}

let before = null;
async function showLoad() {
  if ($("settings").hidden || document.hidden) return;
  try {
    const sums = metricsIn(await (await get("metrics")).text()), at = performance.now();
    const tokens = sums.get("fovea:generation_tokens_total");
    const pairs = [["requests running", sums.get("fovea:num_requests_running")],
                   ["requests waiting", sums.get("fovea:num_requests_waiting")],
                   ["KV cache in use", `${(100 * (sums.get("fovea:kv_cache_usage_perc") ?? 0)).toFixed(1)} %`]];
    if (before && tokens !== undefined)
      pairs.push(["tokens a second", ((tokens - before.tokens) * 1000 / (at - before.at)).toFixed(1)]);
    before = { tokens, at };
    showPairs($("load"), pairs.filter(([, value]) => value !== undefined));
  } catch (error) {
    showPairs($("load"), [["metrics", error.message]]);
  }
}

async function connect() {
  try {
    const models = (await (await get("v1/models")).json()).data;
    state.model = models[0].id;
    $("model").textContent = state.model;
    document.title = `${state.model} · fovea`;
    const version = await (await get("version")).json();
    showPairs($("machine"), Object.entries(version).filter(([, value]) => typeof value !== "object"));
    say("");
  } catch (error) {
    $("model").textContent = "not connected";
    say(`${error.message}. Is the key in the settings right, and the model loaded?`);
  }
}

// --- events ---------------------------------------------------------------------------------------------------------

function grow() {
  const box = $("question");
  box.style.height = "auto";
  box.style.height = `${box.scrollHeight + 2}px`;
}

$("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  const question = $("question").value.trim();
  if (state.answering || (question === "" && state.attached.length === 0)) return;
  const items = state.attached;
  state.attached = [];
  $("attached").replaceChildren();
  $("question").value = "";
  grow();
  say("");
  ask(question, items);
});
$("question").addEventListener("input", grow);
$("question").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  $("composer").requestSubmit();
});
$("stop").addEventListener("click", () => state.answering?.abort());
document.addEventListener("keydown", (event) => { if (event.key === "Escape") state.answering?.abort(); });
$("attach").addEventListener("click", () => $("files").click());
$("files").addEventListener("change", () => { attach($("files").files); $("files").value = ""; });
document.addEventListener("paste", (event) => {
  const files = [...(event.clipboardData?.files ?? [])];
  if (files.length === 0) return;
  event.preventDefault();
  attach(files);
});
let dragged = 0;  // dragenter and dragleave come for every element below the pointer
document.addEventListener("dragenter", (event) => { event.preventDefault(); ++dragged; document.body.classList.add("dropping"); });
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("dragleave", () => { if (--dragged <= 0) document.body.classList.remove("dropping"); });
document.addEventListener("drop", (event) => {
  event.preventDefault();
  dragged = 0;
  document.body.classList.remove("dropping");
  attach(event.dataTransfer.files);
});
$("new").addEventListener("click", () => {
  state.messages = [];
  for (const turn of document.querySelectorAll(".turn")) turn.remove();
  $("welcome").hidden = false;
  $("question").focus();
});
$("settings-toggle").addEventListener("click", () => {
  $("settings").hidden = !$("settings").hidden;
  $("settings-toggle").setAttribute("aria-expanded", String(!$("settings").hidden));
  before = null;
  showLoad();
});
$("sampling").addEventListener("submit", (event) => event.preventDefault());
$("sampling").elements.key.value = sessionStorage.getItem("fovea-key") ?? "";
$("sampling").elements.key.addEventListener("change", (event) => {
  sessionStorage.setItem("fovea-key", event.target.value);
  connect();
});
setInterval(showLoad, METRICS_EVERY_MS);
connect();

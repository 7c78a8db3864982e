// The page "ask the memory in the browser": loads model and memory from this folder, asks them, shows what they say.
import * as ort from "./ort.wasm.bundle.min.mjs";
import { Tokenizer } from "./tokenizers.min.mjs";
import { Memory, Model } from "./memory.js";

const part = (name) => document.getElementById(`ask-${name}`);
let turn = 0; // of the last question: an older one that still runs stops

async function fetched(name, loaded) {
  const reply = await fetch(new URL(name, import.meta.url));
  if (!reply.ok) throw new Error(`${name} is missing (HTTP ${reply.status})`);
  const bytes = new Uint8Array(await reply.arrayBuffer());
  loaded(bytes.length);
  // some servers unpack what ends on .gz themselves
  if (bytes[0] !== 0x1f || bytes[1] !== 0x8b) return bytes;
  const unpacked = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(unpacked).arrayBuffer());
}

async function load() {
  let sum = 0;
  const loaded = (size) => {
    sum += size;
    part("status").textContent = `Loading the model: ${(sum / 1e6).toFixed(1)} MB are here …`;
  };
  const names = ["ort-wasm-simd-threaded.wasm.gz", "step.onnx.gz", "memory.bin.gz", "memory.json", "tokenizer.json"];
  const [runtime, graph, numbers, ...texts] = await Promise.all(names.map((name) => fetched(name, loaded)));
  const [known, vocabulary] = texts.map((bytes) => JSON.parse(new TextDecoder().decode(bytes)));
  ort.env.wasm.wasmBinary = runtime;
  ort.env.wasm.numThreads = 1;
  const session = await ort.InferenceSession.create(graph, { executionProviders: ["wasm"] });
  const memory = new Memory(known, new Float32Array(numbers.buffer, numbers.byteOffset, numbers.byteLength / 4));
  return new Model(ort, session, new Tokenizer(vocabulary, {}), memory);
}

function list(pairs) {
  const made = pairs.flatMap(([name, value]) => {
    const [term, told] = [document.createElement("dt"), document.createElement("dd")];
    [term.textContent, told.textContent] = [name, value];
    return [term, told];
  });
  part("details").replaceChildren(...made);
}

// What `mome.memory.checking` says of an answer
function verdict(found, text, memory, on) {
  if (!on) return ["off", "memory is off", "The backbone answered alone."];
  if (!found.recognized) return ["no", "not memorized", "No expert took part, so this is the backbone's own answer."];
  if (text === memory.facts[found.fact].answer) return ["yes", "memorized", "The experts gave the stored answer, word for word."];
  return ["no", "not memorized", "The question was recognized, but the experts gave another answer than the stored one."];
}

function tell(found, memory, read, question) {
  const { min_score: least } = memory.settings;
  const score = found.score.toFixed(2);
  const relation = found.recognized ? "at or above" : "below";
  const rows = [["Router's score", `${score}, ${relation} the rejection threshold of ${least.toFixed(2)}`]];
  const near = memory.facts[found.nearestFact].question;
  if (found.recognized) rows.push(["Recognized as", memory.facts[found.fact].question]);
  else rows.push(["Nearest stored question", `${near} (similarity ${found.nearest.score.toFixed(2)})`]);
  if (found.score < least && found.nearest.score >= least) rows.push(["Names", "The words that tell this stored fact from others are not in the question."]);
  rows.push(["Chosen experts", found.recognized ? memory.experts[found.fact].join(", ") : "none"]);
  if (found.recognized) rows.push(["Stored answer", memory.facts[found.fact].answer]);
  if (read !== question) rows.push(["Read as", read]);
  list(rows);
  part("details").querySelector("dd").append(bar(found.score, least));
}

// The score as a bar with a mark at the threshold; the words beside it say the same.
function bar(score, least) {
  const drawn = document.createElement("span");
  drawn.className = "ask-bar";
  drawn.setAttribute("aria-hidden", "true");
  drawn.style.setProperty("--score", `${100 * Math.max(0, score)}%`);
  drawn.style.setProperty("--least", `${100 * least}%`);
  return drawn;
}

function show(kind, label, why) {
  const badge = part("label");
  badge.className = `ask-badge ask-${kind}`;
  badge.textContent = label;
  part("why").textContent = why;
}

async function ask(model, question) {
  const mine = (turn += 1);
  const on = part("memory").checked;
  const current = () => mine === turn;
  const { memory } = model;
  const read = memory.readAs(question);
  part("result").hidden = false;
  part("result").setAttribute("aria-busy", "true");
  part("asked").textContent = question;
  for (const name of ["answer", "own"]) part(name).textContent = "…";
  show("wait", "thinking", "");
  list([]);
  const found = await model.route(read);
  if (!current()) return;
  if (on) tell(found, memory, read, question);
  const streamed = (...names) => (text) => {
    if (current()) for (const name of names) part(name).textContent = text || "…";
    return current();
  };
  const experts = on && found.recognized;
  let text = "";
  if (experts) {
    text = await model.answer(read, found.fact, streamed("answer"));
    if (!current()) return;
    show(...verdict(found, text, memory, on));
    if (text !== memory.facts[found.fact].answer) part("answer").textContent = memory.settings.abstention;
  }
  const own = await model.answer(read, null, streamed(...(experts ? ["own"] : ["answer", "own"])));
  if (!current()) return;
  for (const name of experts ? ["own"] : ["answer", "own"]) part(name).textContent = own || "(nothing)";
  if (!experts) show(...verdict(found, own, memory, on));
  part("result").setAttribute("aria-busy", "false");
}

function fillFacts(memory, choose) {
  const items = memory.facts.map(({ question, answer }) => {
    const [item, button] = [document.createElement("li"), document.createElement("button")];
    Object.assign(button, { type: "button", textContent: question, className: "ask-fact" });
    button.addEventListener("click", () => choose(question));
    item.append(button, ` ${answer}`);
    return item;
  });
  part("facts").replaceChildren(...items);
}

async function start() {
  const model = await load();
  const input = part("question");
  const run = () => {
    const question = input.value.trim();
    const room = model.memory.settings.most_tokens - model.memory.settings.longest_backbone;
    if (!question) part("status").textContent = "Type a question first.";
    else if (model.prompt(question).length > room) part("status").textContent = "This question is too long for the backbone.";
    else {
      part("status").textContent = "Ready.";
      ask(model, question).catch(failed);
    }
  };
  const choose = (question) => {
    input.value = question;
    run();
    part("result").scrollIntoView({ block: "nearest" });
  };
  part("form").addEventListener("submit", (event) => {
    event.preventDefault();
    run();
  });
  part("memory").addEventListener("change", () => input.value.trim() && run());
  for (const button of document.querySelectorAll("[data-question]")) {
    button.addEventListener("click", () => choose(button.dataset.question));
    button.disabled = false;
  }
  fillFacts(model.memory, choose);
  for (const name of ["question", "send", "memory"]) part(name).disabled = false;
  part("status").textContent = "Ready. Type a question, or choose one below.";
}

function failed(error) {
  console.error(error);
  part("status").textContent = `This did not work: ${error.message}`;
}

start().catch(failed);

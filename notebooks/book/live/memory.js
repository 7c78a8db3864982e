// The memory in the browser: what `mome.memory` does for one question, with the exported graph as the model.
// Each function names the Python it follows; tests/book/test_live.py compares their answers.

const SIGNS = { opening: "\"'([{\u201c\u201d\u201e\u00ab\u00bb\u00bf\u00a1", closing: "\"')]}\u201c\u201d\u201e\u00ab\u00bb?!.,;:\u2026\u3002" };
const SHORTEST_TYPED = 4;

function stripped(word) {
  let start = 0;
  let end = word.length;
  while (start < end && SIGNS.opening.includes(word[start])) start += 1;
  while (end > start && SIGNS.closing.includes(word[end - 1])) end -= 1;
  return word.slice(start, end).replaceAll("'", "");
}

// mome.facts.typing_key.typing_key
export function typingKey(text) {
  const narrow = text
    .replace(/[\uff01-\uff5e]/g, (sign) => String.fromCharCode(sign.charCodeAt(0) - 0xfee0))
    .replaceAll("\u3000", " ")
    .replace(/[\u2018\u2019\u201a\u201b\u02bc\u00b4`]/g, "'");
  const words = narrow.normalize("NFC").toLowerCase().split(/\s+/).map(stripped);
  return words.filter(Boolean).join(" ");
}

// mome.facts.names.words
export function wordsOf(text) {
  const joined = /(?<=[\p{L}\p{N}_])['\u2019.-](?=[\p{L}\p{N}_])/gu;
  return text.normalize("NFKC").toLowerCase().replace(joined, "").match(/[\p{L}\p{N}]+/gu) ?? [];
}

// mome.facts.names.one_slip
export function oneSlip(word, other) {
  if (Math.abs(word.length - other.length) > 1) return false;
  let start = 0;
  while (start < Math.min(word.length, other.length) && word[start] === other[start]) start += 1;
  let [a, b] = [word.slice(start), other.slice(start)];
  while (a && b && a.at(-1) === b.at(-1)) [a, b] = [a.slice(0, -1), b.slice(0, -1)];
  return Math.max(a.length, b.length) <= 1 || (a.length === 2 && a === [...b].reverse().join(""));
}

export class Memory {
  // `known` is memory.json; `numbers` holds the anchors' queries and then the experts' rows, f32.
  constructor(known, numbers) {
    Object.assign(this, known);
    const anchors = this.owners.length * this.settings.key_size;
    this.queries = numbers.subarray(0, anchors);
    this.table = numbers.subarray(anchors);
    this.rowSize = this.table.length / this.rows.length;
    this.place = new Map(this.rows.map((expert, row) => [expert, row]));
  }

  // mome.memory.editing.holdings.Holdings.read_as
  readAs(question) {
    const key = typingKey(question);
    return this.typed[key] ?? this.typed[this.withoutCourtesies(key)] ?? question;
  }

  // mome.facts.typing_key.without_courtesies
  withoutCourtesies(key) {
    const longestFirst = (phrases) => [...phrases].sort((a, b) => b.split(" ").length - a.split(" ").length);
    const padded = ` ${key} `;
    const greeting = longestFirst(this.greetings).find((each) => padded.startsWith(` ${each} `));
    const rest = greeting === undefined ? padded : padded.slice(greeting.length + 1);
    const courtesy = longestFirst(this.courtesies).find((each) => rest.endsWith(` ${each} `));
    return (courtesy === undefined ? rest : rest.slice(0, -courtesy.length - 1)).trim();
  }

  // mome.facts.names.Names.share
  share(anchor, asked) {
    const { weights, shared } = this.names;
    const unknown = asked.filter((word) => !(word in weights));
    const typed = (word) =>
      word.length >= SHORTEST_TYPED && /^\p{L}+$/u.test(word) && unknown.some((other) => oneSlip(word, other));
    let [total, lacking] = [0, 0];
    for (const word of shared[anchor]) {
      total += weights[word];
      if (!asked.includes(word) && !typed(word)) lacking += weights[word];
    }
    return total === 0 ? 1 : 1 - lacking / total;
  }

  // mome.adapter.anchors.Anchors.recognize; `nearest` is the most similar anchor of all, whatever its names are
  recognize(query, question) {
    const size = this.settings.key_size;
    const scored = this.owners.map((_, anchor) => {
      let sum = 0;
      for (let i = 0; i < size; i += 1) sum += query[i] * this.queries[anchor * size + i];
      return { anchor, score: sum };
    });
    const best = scored.sort((a, b) => b.score - a.score).slice(0, this.settings.nearest);
    const asked = wordsOf(question);
    const named = best.find(({ anchor }) => this.share(anchor, asked) >= this.settings.least_names);
    const { anchor, score } = named ?? { anchor: 0, score: -1 };
    const recognized = score >= this.settings.min_score;
    return { score, recognized, fact: this.owners[anchor], nearest: best[0], nearestFact: this.owners[best[0].anchor] };
  }

  // the rows [K, modules, width] and weights [K] of a fact's experts; null: of no expert
  chosen(fact) {
    const count = this.experts[0].length;
    const rows = new Float32Array(count * this.rowSize);
    if (fact === null) return { rows, weights: new Float32Array(count) };
    this.experts[fact].forEach((expert, k) => {
      const start = this.place.get(expert) * this.rowSize;
      rows.set(this.table.subarray(start, start + this.rowSize), k * this.rowSize);
    });
    return { rows, weights: Float32Array.from(this.weights[fact]) };
  }
}

// Greedy answers by the exported graph, without a KV cache: each token is one run over all tokens so far.
export class Model {
  constructor(ort, session, tokenizer, memory) {
    Object.assign(this, { ort, session, tokenizer, memory });
  }

  prompt(question) {
    const { before, after } = this.memory.prompt;
    return this.tokenizer.encode(before + question + after).ids;
  }

  async step(ids, experts) {
    const { Tensor } = this.ort;
    const [count, modules] = [experts.weights.length, this.memory.modules];
    const found = await this.session.run({
      ids: new Tensor("int64", BigInt64Array.from(ids, BigInt), [1, ids.length]),
      rows: new Tensor("float32", experts.rows, [count, modules, experts.rows.length / count / modules]),
      weights: new Tensor("float32", experts.weights, [count]),
    });
    return { logits: found.logits.data, query: found.query.data };
  }

  async route(question) {
    const { query } = await this.step(this.prompt(question), this.memory.chosen(null));
    return this.memory.recognize(query, question);
  }

  // mome.lm.streaming.Stream and mome.lm.encoding.said: the text up to another question, without a half-written end
  said(ids, finished) {
    const whole = this.tokenizer.decode(ids, { skip_special_tokens: true });
    const stop = whole.search(/\n[A-Z]:/);
    const text = stop < 0 ? whole : whole.slice(0, stop);
    return { text: (finished ? text : text.replace(/\n[A-Z]?$|\ufffd+$/, "")).trim(), ended: stop >= 0 };
  }

  // `show` gets the text so far after each token, and may return false to end the answer
  async answer(question, fact, show) {
    const { end, longest_memorized, longest_backbone, most_tokens } = this.memory.settings;
    const experts = this.memory.chosen(fact);
    const prompt = this.prompt(question);
    const most = Math.min(fact === null ? longest_backbone : longest_memorized, most_tokens - prompt.length);
    const ids = [];
    while (ids.length < most) {
      const { logits } = await this.step([...prompt, ...ids], experts);
      const next = logits.reduce((best, value, token) => (value > logits[best] ? token : best), 0);
      if (next === end) break;
      ids.push(next);
      const { text, ended } = this.said(ids, false);
      if (show(text) === false || ended) break;
      await new Promise((done) => setTimeout(done)); // the page draws the new token
    }
    return this.said(ids, true).text;
  }
}

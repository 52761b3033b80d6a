/**
 * A live stream that outlives its connections.
 *
 * Samples are numbered, and kept until the server acknowledges that it does not need them any more.
 * After a dropped connection all that are kept are sent again, to whichever server answers, together
 * with the last `resume` of the server; so no prediction is missing and none comes twice.
 */

import { floats, MotoricError, pause, type Prediction, type Sample } from "./motoric.js";

const HEADER_BYTES = 24;
const MAX_FAILURES = 8;
const MAX_PAUSE_MS = 5_000;
const SILENCE_MS = 60_000;
const MAX_BUFFERED_BYTES = 2 ** 20;
const LOST = 1006;
// Close codes after which another connection can go on.
const RESUMABLE = new Set([1001, LOST, 1011, 1012, 1013, 4408, 4429]);

/** What the model says about one window of the stream. */
export interface LivePrediction extends Prediction {
  number: number;
  start_s: number;
  end_s: number;
}

export interface StreamOptions {
  /** Of the samples. */
  rateHz: number;
  /** Their order: all that the model has. */
  channels: string[];
  /** Called with each prediction, in order, each once. */
  onPrediction: (prediction: LivePrediction) => void;
}

/** Sent back to the server as it came. */
interface Resume {
  replay_from: number;
  next_prediction: number;
}

type Reply =
  | { type: "opened"; next_sample: number; next_prediction: number; max_chunk: number; max_chunk_s: number }
  | ({ type: "prediction"; resume: Resume } & LivePrediction)
  | { type: "acknowledged"; resume: Resume }
  | { type: "ended"; num_predictions: number }
  | { type: "error"; code: number; detail: string };

/** Why a connection is over. */
interface Closed {
  code: number;
  reason: string;
}

export class LiveStream {
  readonly #url: string;
  readonly #protocols: () => Promise<string[]>;
  readonly #options: StreamOptions;
  readonly #over: Promise<void>;

  readonly #held: Sample[] = [];
  #first = 0; // number of the first sample held
  #next = 0; // number of the sample that this connection sends next
  #nextPrediction = 0;
  #resume: Resume | undefined;
  #isEnding = false;
  #isEnded = false;
  #numFailures = 0; // in a row, without a prediction
  #error: unknown;

  #socket: WebSocket | undefined; // once it is open
  #maxChunk = 0;
  #isEndSent = false;

  /** Made by `MotoricClient.stream`. */
  constructor(url: string, protocols: () => Promise<string[]>, options: StreamOptions) {
    this.#url = url;
    this.#protocols = protocols;
    this.#options = options;
    this.#over = this.#run();
    this.#over.catch((error: unknown) => {
      this.#error = error; // thrown by what the caller asks next
    });
  }

  /** Takes the next samples; they leave when the connection lets them. */
  send(samples: Sample[]): void {
    this.#throwIfOver();
    this.#held.push(...samples);
    this.#transmit();
  }

  /** Waits until all samples have left, for those who have more of them than the network takes. */
  async ready(): Promise<void> {
    while (this.#next < this.#first + this.#held.length) {
      this.#throwIfOver();
      await pause(10);
      this.#transmit();
    }
  }

  /** Tells that no more samples come, and waits for the last prediction. */
  async finish(): Promise<void> {
    this.#isEnding = true;
    this.#transmit();
    const pump = setInterval(() => this.#transmit(), 10);
    try {
      await this.#over;
    } finally {
      clearInterval(pump);
    }
  }

  #throwIfOver(): void {
    if (this.#error !== undefined) {
      throw this.#error;
    }
    if (this.#isEnding) {
      throw new MotoricError("this stream was finished: open another one");
    }
  }

  async #run(): Promise<void> {
    for (;;) {
      const closed = await this.#connect();
      this.#socket = undefined;
      if (this.#isEnded) {
        return;
      }
      if (!RESUMABLE.has(closed.code) || ++this.#numFailures >= MAX_FAILURES) {
        throw new MotoricError(closed.reason);
      }
      await pause(Math.min(100 * 2 ** this.#numFailures, MAX_PAUSE_MS));
    }
  }

  /** Connects, and resolves when the connection is over. */
  async #connect(): Promise<Closed> {
    let protocols: string[];
    try {
      protocols = await this.#protocols();
    } catch (error) {
      if (error instanceof MotoricError) {
        throw error;
      }
      return { code: LOST, reason: `the server is not reached: ${error}` };
    }
    const socket = new WebSocket(this.#url, protocols);
    this.#next = this.#first;
    this.#isEndSent = false;
    let watchdog: ReturnType<typeof setTimeout> | undefined;
    try {
      return await new Promise<Closed>((resolve, reject) => {
        const watch = (): void => {
          clearTimeout(watchdog);
          const silent = { code: LOST, reason: "the server says nothing" };
          // While samples may still come, a server has reason to be silent.
          watchdog = setTimeout(
            () => (this.#socket && !this.#isEnding ? watch() : resolve(silent)),
            SILENCE_MS,
          );
        };
        watch();
        socket.onopen = () => socket.send(this.#open());
        socket.onmessage = (event) => {
          watch();
          try {
            const error = this.#take(JSON.parse(String(event.data)) as Reply, socket);
            if (error !== undefined) {
              resolve(error);
            }
          } catch (error) {
            reject(error);
          }
        };
        // After a handshake that failed, Node 20 sends no `close`.
        socket.onerror = () => resolve({ code: LOST, reason: "the connection was lost" });
        socket.onclose = ({ code, reason }) =>
          resolve({ code, reason: `the stream was closed with code ${code} ${reason}`.trim() });
      });
    } finally {
      clearTimeout(watchdog);
      socket.onopen = socket.onmessage = socket.onclose = null;
      socket.close();
    }
  }

  #open(): string {
    const { rateHz, channels } = this.#options;
    return JSON.stringify({ type: "open", rate_hz: rateHz, channels, resume: this.#resume });
  }

  #transmit(): void {
    const socket = this.#socket;
    if (socket === undefined) {
      return;
    }
    const end = this.#first + this.#held.length;
    while (this.#next < end && socket.bufferedAmount < MAX_BUFFERED_BYTES) {
      const start = this.#next - this.#first;
      const samples = this.#held.slice(start, start + this.#maxChunk);
      socket.send(this.#chunk(samples));
      this.#next += samples.length;
    }
    if (this.#isEnding && !this.#isEndSent && this.#next === end) {
      this.#isEndSent = true;
      socket.send('{"type":"end"}');
    }
  }

  /** "MOT1", flags, number of the first sample, samples, channels, then the values. */
  #chunk(samples: Sample[]): ArrayBuffer {
    const chunk = floats(samples, HEADER_BYTES);
    const header = new DataView(chunk);
    new Uint8Array(chunk).set([..."MOT1"].map((letter) => letter.charCodeAt(0)));
    header.setUint32(4, 0, true);
    header.setBigUint64(8, BigInt(this.#next), true);
    header.setUint32(16, samples.length, true);
    header.setUint32(20, this.#options.channels.length, true);
    return chunk;
  }

  /** Takes a message; gives why the connection is over, if it is. */
  #take(reply: Reply, socket: WebSocket): Closed | undefined {
    switch (reply.type) {
      case "opened":
        expect(reply.next_sample === this.#first, reply);
        expect(reply.next_prediction === this.#nextPrediction, reply);
        this.#maxChunk = Math.min(
          reply.max_chunk,
          Math.max(1, Math.floor(reply.max_chunk_s * this.#options.rateHz)),
        );
        this.#socket = socket;
        this.#transmit();
        return undefined;
      case "prediction":
        expect(reply.number === this.#nextPrediction, reply);
        this.#nextPrediction++;
        this.#forget(reply);
        this.#numFailures = 0;
        this.#options.onPrediction(reply);
        return undefined;
      case "acknowledged":
        this.#forget(reply);
        return undefined;
      case "ended":
        expect(this.#isEndSent && reply.num_predictions === this.#nextPrediction, reply);
        this.#isEnded = true;
        return { code: 1000, reason: "" };
      case "error":
        return { code: reply.code, reason: reply.detail };
      default:
        return undefined; // a newer server may say more
    }
  }

  #forget(reply: { resume: Resume }): void {
    const resume = reply.resume;
    expect(resume.next_prediction === this.#nextPrediction, reply);
    expect(this.#first <= resume.replay_from && resume.replay_from <= this.#next, reply);
    this.#held.splice(0, resume.replay_from - this.#first);
    this.#first = resume.replay_from;
    this.#resume = resume;
  }
}

function expect(isTrue: boolean, reply: unknown): void {
  if (!isTrue) {
    const message = JSON.stringify(reply);
    throw new MotoricError(`the server's message does not fit the stream: ${message}`);
  }
}

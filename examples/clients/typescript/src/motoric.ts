/**
 * Asks models that Motoric serves, from a browser or Node. Nothing but `fetch` and `WebSocket`.
 *
 * What the server refuses is thrown as MotoricError with the detail of its problem document
 * (RFC 9457); `fetch` throws its own TypeError where the server is not reached.
 */

import { LiveStream, type StreamOptions } from "./stream.js";

const MAX_TRIES = 6;
const MAX_PAUSE_S = 30;
const TIMEOUT_MS = 60_000;
const TRY_AGAIN = 503;

/** One sample: a value a channel; NaN is missing. */
export type Sample = ArrayLike<number>;

/** What a model says about a window; classes, a value or quantiles. */
export interface Prediction {
  label?: string;
  probability?: number;
  probabilities?: Record<string, number>;
  value?: number;
  unit?: string;
  quantiles?: Record<string, number>;
}

/** Windows of sensors as a model takes them; of the first `context_s` only its filters know. */
export interface SensorInput {
  kind: "sensor";
  channels: { name: string; unit: string }[];
  rate_hz: number;
  length_s: number;
  hop_s: number;
  context_s: number;
}

export interface Signature {
  inputs: (SensorInput | { kind: "clip" })[];
}

export interface Model {
  model: string;
  version: number;
  digest: string;
  signature: Signature;
}

/** What the server, or this client, says is wrong; for a person to read. */
export class MotoricError extends Error {
  override name = "MotoricError";

  constructor(
    message: string,
    /** HTTP status, or 0 where there was none. */
    readonly status = 0,
  ) {
    super(message);
  }
}

export class MotoricClient {
  readonly #url: string;
  readonly #key: string;

  /**
   * @param url where Motoric is, such as http://127.0.0.1:8000
   * @param key an API key, made by `motoric keys create`; keep it out of pages that others load
   */
  constructor(url: string, key: string) {
    this.#url = url.replace(/\/+$/, "");
    this.#key = key;
  }

  /** All released models. */
  async models(): Promise<Model[]> {
    return ((await this.#ask("/v1/models")) as { models: Model[] }).models;
  }

  /** The version of a model that is served. */
  async model(name: string): Promise<Model> {
    return (await this.#ask(base(name))) as Model;
  }

  /** What windows a model takes. */
  async sensors(name: string): Promise<SensorInput> {
    for (const input of (await this.model(name)).signature.inputs) {
      if (input.kind === "sensor") {
        return input;
      }
    }
    throw new MotoricError(`model ${name} takes no windows of sensors`);
  }

  /**
   * Asks for predictions.
   *
   * @param channels the order of the channels in `windows`: all that the model has, in any order
   * @param windows each with its samples
   */
  async predict(name: string, channels: string[], windows: Sample[][]): Promise<Prediction[]> {
    const query = new URLSearchParams({ channels: channels.join(",") });
    const answer = await this.#ask(`${base(name)}/predict?${query}`, {
      method: "POST",
      headers: { "Content-Type": "application/octet-stream", Accept: "application/json" },
      body: floats(windows.flat()),
    });
    return (answer as { predictions: Prediction[] }).predictions;
  }

  /** Opens a live stream; see LiveStream. */
  stream(name: string, options: StreamOptions): LiveStream {
    const url = `ws${this.#url.slice("http".length)}${base(name)}/stream`;
    return new LiveStream(url, () => this.streamProtocols(name), options);
  }

  /**
   * The subprotocols that open a stream of one model, with a token that lasts a minute. A WebSocket
   * cannot send the API key; a back end that keeps the key asks for these, and its page opens the
   * stream with them.
   */
  async streamProtocols(name: string): Promise<string[]> {
    const answer = await this.#ask(`${base(name)}/stream/tokens`, { method: "POST" });
    return (answer as { protocols: string[] }).protocols;
  }

  async #ask(path: string, init: RequestInit = {}): Promise<unknown> {
    for (let numTries = 1; ; numTries++) {
      const response = await fetch(this.#url + path, {
        ...init,
        headers: { ...init.headers, Authorization: `Bearer ${this.#key}` },
        redirect: "error",
        signal: AbortSignal.timeout(TIMEOUT_MS),
      });
      if (response.ok) {
        return response.json();
      }
      if (response.status !== TRY_AGAIN || numTries === MAX_TRIES) {
        throw await problem(response);
      }
      await response.body?.cancel();
      await pause(pauseS(response) * 1000);
    }
  }
}

/**
 * Cuts a recording into all windows that it holds, each with its context; before the beginning the
 * first sample is repeated.
 */
export function cutWindows(
  sensors: SensorInput,
  samples: Sample[],
): { startS: number; window: Sample[] }[] {
  const [length, hop, context] = [sensors.length_s, sensors.hop_s, sensors.context_s].map(
    (lengthS) => Math.round(lengthS * sensors.rate_hz),
  ) as [number, number, number];
  const windows: { startS: number; window: Sample[] }[] = [];
  for (let start = 0; start + length <= samples.length; start += Math.max(1, hop)) {
    const window: Sample[] = [];
    for (let row = start - context; row < start + length; row++) {
      window.push(samples[Math.max(row, 0)]!);
    }
    windows.push({ startS: start / sensors.rate_hz, window });
  }
  return windows;
}

/** Samples as float32, little-endian, one after the other, with room for a header before them. */
export function floats(samples: Sample[], headerBytes = 0): ArrayBuffer {
  const numChannels = samples[0]?.length ?? 0;
  const view = new DataView(new ArrayBuffer(headerBytes + 4 * samples.length * numChannels));
  let place = headerBytes;
  for (const sample of samples) {
    for (let channel = 0; channel < numChannels; channel++, place += 4) {
      view.setFloat32(place, sample[channel] ?? NaN, true);
    }
  }
  return view.buffer;
}

export function pause(timeMs: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, timeMs));
}

function base(name: string): string {
  return `/v1/models/${encodeURIComponent(name)}`;
}

function pauseS(response: Response): number {
  const after = response.headers.get("Retry-After") ?? "";
  return /^\d+$/.test(after) ? Math.min(Number(after), MAX_PAUSE_S) : 1;
}

/** The problem of an answer; a proxy in between may send no document. */
async function problem(response: Response): Promise<MotoricError> {
  const type = response.headers.get("Content-Type") ?? "";
  if (type.startsWith("application/problem+json")) {
    const { detail } = (await response.json()) as { detail: string };
    return new MotoricError(detail, response.status);
  }
  return new MotoricError(`the server answered with status ${response.status}`, response.status);
}

/** The client on the command line; exits with 2 where the server or this client says what is wrong. */

import { readFile } from "node:fs/promises";

import { cutWindows, MotoricClient, MotoricError, type Prediction } from "./motoric.js";
import { parseRecording, type Recording } from "./recording.js";

const USAGE = "usage: models | show MODEL | predict MODEL FILE.csv | stream MODEL FILE.csv";
const WINDOWS_A_REQUEST = 64;
const SAMPLES_A_CHUNK = 25;

async function run([command, model, file, ...more]: string[]): Promise<void> {
  if (command === "models" && model === undefined) {
    for (const { model, version } of await client().models()) {
      console.log(`${model}\t${version}`);
    }
  } else if (command === "show" && model !== undefined && file === undefined) {
    console.log(JSON.stringify(await client().sensors(model), null, 1));
  } else if (command === "predict" && model && file && more.length === 0) {
    await predict(client(), model, await read(file));
  } else if (command === "stream" && model && file && more.length === 0) {
    await stream(client(), model, await read(file));
  } else {
    throw new MotoricError(USAGE);
  }
}

function client(): MotoricClient {
  const key = process.env.MOTORIC_API_KEY;
  if (!key) {
    throw new MotoricError("set MOTORIC_API_KEY: `motoric keys create` makes a key");
  }
  return new MotoricClient(process.env.MOTORIC_URL ?? "http://127.0.0.1:8000", key);
}

async function read(file: string): Promise<Recording> {
  return parseRecording(await readFile(file, "utf8"), file);
}

async function predict(client: MotoricClient, model: string, recording: Recording): Promise<void> {
  const sensors = await client.sensors(model);
  const windows = cutWindows(sensors, recording.samples);
  if (windows.length === 0) {
    const needed = Math.round(sensors.length_s * sensors.rate_hz);
    const { length } = recording.samples;
    throw new MotoricError(`${length} samples hold no window: one has ${needed}`);
  }
  for (let start = 0; start < windows.length; start += WINDOWS_A_REQUEST) {
    const part = windows.slice(start, start + WINDOWS_A_REQUEST);
    const asked = part.map(({ window }) => window);
    const predictions = await client.predict(model, recording.channels, asked);
    for (const [index, prediction] of predictions.entries()) {
      const startS = part[index]!.startS;
      print(startS, startS + sensors.length_s, prediction);
    }
  }
}

async function stream(client: MotoricClient, model: string, recording: Recording): Promise<void> {
  const live = client.stream(model, {
    rateHz: (await client.sensors(model)).rate_hz,
    channels: recording.channels,
    onPrediction: (prediction) => print(prediction.start_s, prediction.end_s, prediction),
  });
  // As they would come from a sensor, but for the time between them.
  for (let start = 0; start < recording.samples.length; start += SAMPLES_A_CHUNK) {
    live.send(recording.samples.slice(start, start + SAMPLES_A_CHUNK));
    await live.ready();
  }
  await live.finish();
}

/** One line: start, end, label and its probability, then all classes, separated by tabs. */
function print(startS: number, endS: number, prediction: Prediction): void {
  const { label, probability, value, unit } = prediction;
  const parts = Object.entries(prediction.probabilities ?? prediction.quantiles ?? {});
  const cells = [
    startS.toFixed(2),
    endS.toFixed(2),
    label,
    probability?.toFixed(6),
    value?.toFixed(6),
    unit,
    ...parts.map(([name, part]) => `${name}=${part.toFixed(6)}`),
  ];
  console.log(cells.filter((cell) => cell !== undefined).join("\t"));
}

try {
  await run(process.argv.slice(2));
} catch (error) {
  const isSaid = error instanceof MotoricError;
  const said = error instanceof Error ? error : new Error(String(error));
  const cause = said.cause instanceof Error ? `: ${said.cause.message}` : "";
  console.error(`error: ${said.message}${cause}`);
  process.exitCode = isSaid ? 2 : 1;
}

/** Sensor recordings as CSV: the first line names the channels, each further line is a sample. */

import { MotoricError, type Sample } from "./motoric.js";

const TIME = "time_s";

export interface Recording {
  /** Names, without the column time_s, which is not sent. */
  channels: string[];
  /** NaN where a cell is empty. */
  samples: Sample[];
}

/** Reads the text of a file; `name` is for messages. */
export function parseRecording(text: string, name: string): Recording {
  const lines = text.split(/\r?\n/);
  const names = (lines[0] ?? "").split(",").map((cell) => cell.trim());
  const columns = names.map((_, column) => column).filter((column) => names[column] !== TIME);
  const samples: Sample[] = [];
  for (const [index, line] of lines.entries()) {
    if (index === 0 || line.trim() === "") {
      continue;
    }
    const where = `${name} line ${index + 1}`;
    const cells = line.split(",");
    if (cells.length !== names.length) {
      throw new MotoricError(`${where} has ${cells.length} cells, the first line ${names.length}`);
    }
    samples.push(columns.map((column) => parseCell(cells[column]!.trim(), where)));
  }
  return { channels: columns.map((column) => names[column]!), samples };
}

function parseCell(cell: string, where: string): number {
  const value = cell === "" ? NaN : Number(cell);
  if (Number.isNaN(value) && cell !== "" && cell.toLowerCase() !== "nan") {
    throw new MotoricError(`${where} holds '${cell}', which is no number`);
  }
  return value;
}

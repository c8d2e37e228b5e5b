// What went wrong inside the shim, for whoever mends it: a small file beside the daemon's socket.
//
// OpenCode never hears of these failures. `rlmctl doctor` says where the file is. No text of a request or
// of an answer is written: the name of an error, and where in the shim it came from.

import fs from "node:fs"
import path from "node:path"

const SOCKET: string = process.env.RLMD_SOCKET || "@SOCKET@"
const FILE = path.join(path.dirname(SOCKET), "shim.log")
const MOST = 64 * 1024 // bytes; a longer file begins anew
const FRAMES = 6

/** Writes a line of what failed where. Never throws. */
export function note(where: string, error?: unknown): void {
  try {
    const size = fs.statSync(FILE, { throwIfNoEntry: false })?.size ?? 0
    const line = `${new Date().toISOString()} ${process.pid} ${where}${traceOf(error)}\n`
    fs.writeFileSync(FILE, line, { flag: size > MOST ? "w" : "a", mode: 0o600 })
  } catch {
    // There is no state directory: nobody has started rlmd yet.
  }
}

function traceOf(error: unknown): string {
  if (!(error instanceof Error)) return error === undefined ? "" : `: ${typeof error}`
  const frames = (error.stack ?? "").split("\n").filter((line) => /^\s*at |@/.test(line))
  return [`: ${error.name}`, ...frames.slice(0, FRAMES)].join("\n    ")
}

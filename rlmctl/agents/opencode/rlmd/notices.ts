// What a person is told: one notice a fact in a process, however many projects and sessions it has.

import type { Settings } from "./daemon/messages.ts"
import { remember } from "./remember.ts"
import { HEADLESS } from "./tui.ts"

// Every copy of the shim in this process tells from one memory: the last word on each fact.
const told: Map<string, string> = ((globalThis as Record<symbol, unknown>)[
  Symbol.for("rlmd.notices")
] ??= new Map<string, string>()) as Map<string, string>

/** Tells a word on a fact, unless that was the last one: on the screen, or on stderr where there is none. */
export function notify(
  fact: string,
  word: string,
  message: string,
  show: () => void,
  settings: Settings,
): void {
  if (told.get(fact) === word) return
  remember(told, fact, word)
  if (!HEADLESS) show()
  else if (settings.stderr) process.stderr.write(`rlmd: ${message}\n`)
}

// The dialog of /rate_limit_status: the daemon's own text, asked for once, when the dialog is called.

import net from "node:net"
import { ABSENT } from "./status.ts"

export const SOCKET: string = process.env.RLMD_SOCKET || "@SOCKET@"
const PATIENCE = 1000 // ms: a person has asked, and nothing else waits
const BELOW = 3 / 4 // of the screen: a dialog begins after its first quarter
const AROUND = 7 // lines of a dialog beside its text
const WIDTH = 50 // of its text: a longer line takes several

/** The daemon's status as text, or what to do where there is none. */
export function status(): Promise<string> {
  return new Promise((resolve) => {
    const socket = net.connect(SOCKET).setEncoding("utf8")
    const end = (text: string) => (socket.destroy(), resolve(text))
    let answer = ""
    socket.setTimeout(PATIENCE, () => end("rlmd does not answer. Try: rlmctl restart"))
    socket.on("error", () => end(ABSENT))
    socket.on("close", () => end(ABSENT)) // it went without a word
    socket.on("data", (text: string) => {
      answer += text
      if (answer.includes("\n")) end(textIn(answer))
    })
    socket.write('{"op":"status","id":1}\n')
  })
}

function textIn(answer: string): string {
  try {
    const { text, message } = JSON.parse(answer)
    return (text ?? message).trimEnd()
  } catch {
    return "rlmd's answer cannot be read. Try: rlmctl doctor"
  }
}

/** The text with a row for each provider: a list scrolls, and a text that is too long is cut off.
 *  In a row what stands at the right is cut off last: until when, or else how much is used. */
export function listOf(text: string) {
  const [, ...providers] = text.split("\n\n")
  const title = providers.pop() ?? text
  const options = providers.map((paragraph) => {
    const [value, ...more] = paragraph.split("\n").map((line) => line.trim())
    const [, name = value, mark = ""] = /^(.*): (\S) /.exec(value) ?? []
    const facts = more.filter((line) => !line.startsWith("Models:"))
    const footer = facts.pop()?.replace("Cooldown until:", "until")
    return { title: `${mark} ${name}`, description: facts.join(", "), footer, value }
  })
  return { title, options }
}

/** Whether a text can be read in a dialog on a screen of this size. */
export function fits(text: string, screen: { width: number; height: number }): boolean {
  const width = Math.max(1, Math.min(WIDTH, screen.width - 10))
  const rows = text.split("\n").map((line) => Math.ceil(line.length / width) || 1)
  const height = rows.reduce((sum, lines) => sum + lines, AROUND)
  return height < screen.height * BELOW
}

// The dialog of /rate_limit_status on OpenCode's screen: the daemon's own text, no message in the
// session, no model.
//
// OpenCode takes a plugin's screen part from a file of its own, named in tui.json(c). This one asks
// once, when it is called, and keeps no connection.

import { readFileSync } from "node:fs"
import net from "node:net"
import { isMainThread } from "node:worker_threads"
import type { TuiPlugin } from "@opencode-ai/plugin/tui"
import { ABSENT } from "./status.ts"

const SOCKET: string = process.env.RLMD_SOCKET || "@SOCKET@"
const PATIENCE = 1000 // ms: a person has asked, and nothing else waits
const BELOW = 3 / 4 // of the screen: a dialog begins after its first quarter
const AROUND = 7 // lines of a dialog beside its text
const WIDTH = 50 // of its text: a longer line takes several

/** Whether this process is an `opencode run`, whatever options come before that word. */
export const HEADLESS = isMainThread && process.argv.slice(2).includes("run")

/** Whether this process has a screen, and that one knows of the dialog: a server's command of the
 *  same name would stand beside it in the menu. With a screen, OpenCode's server is a worker. */
export const isShown = () => !isMainThread && ["tui.jsonc", "tui.json"].some(namesThis)

function namesThis(file: string): boolean {
  try {
    return readFileSync(new URL(`../../${file}`, import.meta.url), "utf8").includes("rlmd/tui.ts")
  } catch {
    return false
  }
}

/** The daemon's status as text, or what to do where there is none. */
function status(): Promise<string> {
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
function listOf(text: string) {
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

const tui: TuiPlugin = async (api) => {
  const close = () => api.ui.dialog.clear()
  const run = async () => {
    const message = await status()
    await new Promise((resolve) => setTimeout(resolve, 50)) // or the key that called would confirm
    const width = Math.max(1, Math.min(WIDTH, api.renderer.width - 10))
    const rows = message.split("\n").map((line) => Math.ceil(line.length / width) || 1)
    const height = rows.reduce((sum, lines) => sum + lines, AROUND)
    const fits = height < api.renderer.height * BELOW
    const { title, options } = listOf(message)
    api.ui.dialog.replace(() =>
      fits
        ? api.ui.DialogAlert({ title: "rlmd", message, onConfirm: close })
        : api.ui.DialogSelect({ title, options, onSelect: close }),
    )
  }
  const command = {
    name: "rlmd.status",
    title: "Rate limit status",
    desc: "All providers' limits",
    category: "rlmd",
    namespace: "palette",
    slashName: "rate_limit_status",
    run,
  }
  api.lifecycle.onDispose(api.keymap.registerLayer({ commands: [command], bindings: [] }))
}

export default { id: "rlmd.tui", tui }

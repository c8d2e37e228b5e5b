// The dialog of /rate_limit_status on OpenCode's screen: the daemon's own text, no message, no model.
//
// OpenCode takes a plugin's screen part from a file of its own, named in tui.json(c). This one asks
// once, when it is called, and keeps no connection.

import net from "node:net"
import type { TuiPlugin } from "@opencode-ai/plugin/tui"

const SOCKET: string = process.env.RLMD_SOCKET || "@SOCKET@"
const PATIENCE = 1000 // ms: a person has asked, and nothing else waits
const ABSENT = "rlmd is not running. Start it with: rlmctl start"

/** The daemon's status as text, or what to do where there is none. */
function status(): Promise<string> {
  return new Promise((resolve) => {
    const socket = net.connect(SOCKET).setEncoding("utf8")
    const end = (text: string) => (socket.destroy(), resolve(text))
    let answer = ""
    socket.setTimeout(PATIENCE, () => end("rlmd does not answer. Try: rlmctl restart"))
    socket.on("error", () => end(ABSENT))
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

const tui: TuiPlugin = async (api) => {
  const close = () => api.ui.dialog.clear()
  const run = async () => {
    const message = await status()
    api.ui.dialog.replace(() => api.ui.DialogAlert({ title: "rlmd", message, onConfirm: close }))
  }
  const command = {
    name: "rlmd.status",
    title: "Rate limit status",
    desc: "All providers' limits, in a dialog",
    category: "rlmd",
    namespace: "palette",
    slashName: "rate_limit_status",
    run,
  }
  api.lifecycle.onDispose(api.keymap.registerLayer({ commands: [command], bindings: [] }))
}

export default { id: "rlmd.tui", tui }

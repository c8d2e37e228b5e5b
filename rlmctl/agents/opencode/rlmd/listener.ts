// Hears what the daemon tells, and asks nothing. A daemon that goes is looked for again.

import net from "node:net"
import { messageOf, type Notice } from "./daemon/messages.ts"
import { SOCKET } from "./dialog.ts"

const NOTICES = ["switched", "warning", "all_limited"]
const AGAIN = 5000 // ms until a daemon that is gone is looked for again

/** Has `onNotice` called with each notice, until the returned function is called. */
export function listen(onNotice: (notice: Notice) => void): () => void {
  let socket: net.Socket | undefined
  let timer: ReturnType<typeof setTimeout> | undefined
  let isClosed = false

  function connect() {
    let rest = ""
    const line = JSON.stringify({ op: "subscribe", id: 1, events: NOTICES }) + "\n"
    const opened = net.connect(SOCKET).unref().setEncoding("utf8")
    socket = opened
    opened.on("data", (text: string) => {
      const lines = (rest + text).split("\n")
      rest = lines.pop() ?? ""
      try {
        for (const line of lines) receive(line)
      } catch {
        opened.destroy() // whoever this is, it is no rlmd
      }
    })
    opened.on("error", () => {}) // a close follows
    opened.on("close", () => {
      if (!isClosed) timer = setTimeout(connect, AGAIN).unref()
    })
    opened.write(line)
  }

  function receive(line: string) {
    const { message } = messageOf(line)
    if (message.type === "event") onNotice(message)
  }

  connect()
  return () => {
    isClosed = true
    clearTimeout(timer)
    socket?.destroy()
  }
}

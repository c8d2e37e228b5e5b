// The screen of OpenCode 2.x: the dialog of /rate_limit_status, and the daemon's notices as toasts. The screen
// is a process of its own, beside the server's; both know the daemon's socket.

import { fits, listOf, status } from "../dialog.ts"
import { listen } from "../listener.ts"
import { COMMAND } from "../status.ts"

const SHOWN = 6000 // ms of a notice

type Command = {
  id: string
  title: string
  description: string
  group: string
  palette: boolean
  slash: { name: string }
  run: () => Promise<void>
}
type Row = { title: string; description: string; footer: string | undefined; value: string }
type Toast = { title: string; message: string; variant: "info" | "warning"; duration: number }

/** What is used of the screen. */
type Screen = {
  renderer: { width: number; height: number }
  /** The sessions that this screen knows of. */
  data: { session: { get(id: string): unknown } }
  keymap: { layer(make: () => { mode: "global"; commands: Command[] }): void }
  ui: {
    dialog: {
      alert(text: { title: string; message: string }): Promise<unknown>
      select(list: { title: string; options: Row[] }): Promise<unknown>
    }
    toast: { show(toast: Toast): void }
    slot(place: { append: "app"; render: () => null }): void
  }
}

export function setup(screen: Screen): () => void {
  const { data, keymap, renderer, ui } = screen
  const run = async () => {
    const message = await status()
    if (fits(message, renderer)) await ui.dialog.alert({ title: "rlmd", message })
    else await ui.dialog.select(listOf(message))
  }
  const command = {
    id: "rlmd.status",
    title: "Rate limit status",
    description: "All providers' limits",
    group: "rlmd",
    palette: true,
    slash: { name: COMMAND },
    run,
  }
  const render = () => {
    keymap.layer(() => ({ mode: "global", commands: [command] }))
    return null
  }
  ui.slot({ append: "app", render })
  let last = ""
  return listen(({ event, session, message }) => {
    const isOurs = !session || data.session.get(session) !== undefined
    if (!isOurs || message === last) return
    last = message
    const variant = event === "warning" ? "warning" : "info"
    ui.toast.show({ title: "rlmd", message, variant, duration: SHOWN })
  })
}

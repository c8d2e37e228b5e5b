// The dialog of /rate_limit_status on OpenCode's screen: the daemon's own text, no message in the
// session, no model.
//
// OpenCode takes a plugin's screen part from a file of its own: 1.x from one that tui.json(c) names, 2.x
// from every `tui.ts` in a folder beside the plugins. 1.x calls `tui`, 2.x `setup`.

import { readFileSync } from "node:fs"
import { isMainThread } from "node:worker_threads"
import type { TuiPlugin } from "@opencode-ai/plugin/tui"
import { fits, listOf, status } from "./dialog.ts"
import { COMMAND } from "./status.ts"
import { setup } from "./v2/screen.ts"

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

const tui: TuiPlugin = async (api) => {
  const close = () => api.ui.dialog.clear()
  const run = async () => {
    const message = await status()
    await new Promise((resolve) => setTimeout(resolve, 50)) // or the key that called would confirm
    const { title, options } = listOf(message)
    api.ui.dialog.replace(() =>
      fits(message, api.renderer)
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
    slashName: COMMAND,
    run,
  }
  api.lifecycle.onDispose(api.keymap.registerLayer({ commands: [command], bindings: [] }))
}

export default { id: "rlmd.tui", tui, setup }

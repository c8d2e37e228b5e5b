// `/rate_limit_status`: every provider's limits, in the place of what a model would have said.

import type { PluginInput } from "@opencode-ai/plugin"
import type { Connection } from "../daemon/connection.ts"
import { note } from "../debug.ts"
import { textOfStatus } from "../status.ts"
import { HEADLESS } from "../tui.ts"
import { ANSWERED, isBusy } from "./internals.ts"

const SHOWN = 15_000 // ms on the screen
const PRINTED = 100 // ms until a headless run is stopped

/** Shows the status and stops the command, by a throw that OpenCode takes for an answer. */
export async function showStatus(
  client: PluginInput["client"],
  daemon: Connection,
  session: string,
): Promise<never> {
  const text = textOfStatus(await daemon.ask("status"))
  if (HEADLESS) {
    process.stdout.write(text.trimEnd() + "\n")
    const stop = () => void client.session.abort({ path: { id: session } }).catch(() => {})
    setTimeout(stop, PRINTED)
  } else {
    const body = { title: "rlmd", message: text, variant: "info" as const, duration: SHOWN }
    void client.tui.showToast({ body }).catch(() => {})
    await add(client, session, text).catch((error: unknown) => note("status", error))
  }
  throw ANSWERED
}

/** Adds a text that no model gets to a session, unless it would join a turn. */
async function add(client: PluginInput["client"], session: string, text: string): Promise<void> {
  if (await isBusy(client, session)) return
  const parts = [{ type: "text" as const, text, ignored: true }]
  await client.session.prompt({ path: { id: session }, body: { noReply: true, parts } })
}

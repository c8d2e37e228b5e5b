// What OpenCode sends of a session: what one provider has signed no other one may get.

import type { Message, Part } from "@opencode-ai/sdk"
import { isSame, type Target } from "../daemon/messages.ts"

export type History = { info: Message; parts: Part[] }[]

/** Takes off what others than `to` have signed, and all of an answer that broke off.
 *  Without `to` each message keeps its own provider's signatures. */
export function dropForeignSignatures(history: History, to?: Target): void {
  for (const { info, parts } of history) {
    if (info.role !== "assistant") continue
    const by = { provider: info.providerID, model: info.modelID }
    const begun = parts.findLastIndex(({ type }) => type === "step-start")
    for (const [at, part] of parts.entries()) {
      const isKept = at > begun && isSame(by, to ?? by)
      if ("metadata" in part && part.metadata && !isKept) empty(part.metadata)
    }
  }
}

function empty(object: Record<string, unknown>): void {
  for (const key of Object.keys(object)) delete object[key]
}

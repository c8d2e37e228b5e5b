// `/rate_limit_status`: what a person reads who asks for it.

import type { Message } from "./daemon/messages.ts"

export const COMMAND = "rate_limit_status"
export const ABSENT = "rlmd is not running. Start it with: rlmctl start"

export const textOfStatus = (message: Message | undefined): string =>
  message?.type === "status" ? message.text : ABSENT

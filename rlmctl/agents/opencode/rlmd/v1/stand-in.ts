// What OpenCode gets in a provider's stead, on every wire.

/** A status that OpenCode does not try again. */
export const TURN_ENDS = 400

/** A 429 is tried again after `ms`. */
export function standIn(status: 429 | typeof TURN_ENDS, message: string, ms = 0): Response {
  const headers = { "retry-after-ms": String(ms) }
  return Response.json({ type: "error", error: { type: "rlmd", message } }, { status, headers })
}

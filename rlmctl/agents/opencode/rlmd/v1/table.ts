// The life of one request as a table: what happens to it in which state, what it is then, what is done.
// What stands nowhere changes nothing.

export type State = "announced" | "deciding" | "sent" | "answering" | "ended"

export type Happening =
  | "fetch" // OpenCode makes the request
  | "goes" // nothing leads it elsewhere
  | "unmanaged" // the daemon does not know this provider and model
  | "diverted" // OpenCode got a stand-in for its answer
  | "stopped" // by the person
  | "refused" // an error status
  | "answered" // whole, and nobody reads along
  | "begun" // the first event of an answer
  | "failed" // an error in the answer
  | "broke" // the provider's side ended too soon, or nothing came in time
  | "left" // OpenCode reads no further
  | "finished" // the answer has come
  | "retried" // OpenCode says that it will try again
  | "reported" // OpenCode says that the request has failed
  | "metered" // OpenCode says what it used
  | "idle" // the turn has ended

export type Action =
  | "nothing"
  | "begin" // it has a lease and a time from now on
  | "giveBack"
  | "reportAccepted"
  | "reportOk"
  | "reportError"
  | "reportCancelled"
  | "reportUsage"

type Row = Partial<Record<Happening, readonly [State, Action]>>

/** OpenCode tells of a failure of its own where a request has passed fetch by, or where only OpenCode
 *  sees an error in the answer. */
const TOLD: Row = { retried: ["ended", "reportError"], reported: ["ended", "reportError"] }

export const TABLE: Record<State, Row> = {
  announced: {
    fetch: ["deciding", "nothing"],
    ...TOLD,
    metered: ["ended", "reportOk"],
    idle: ["ended", "reportCancelled"],
  },
  deciding: {
    goes: ["sent", "begin"],
    unmanaged: ["ended", "nothing"],
    diverted: ["ended", "giveBack"],
    stopped: ["ended", "giveBack"],
  },
  sent: {
    refused: ["ended", "reportError"],
    answered: ["ended", "reportOk"],
    begun: ["answering", "reportAccepted"],
    failed: ["ended", "reportError"],
    broke: ["ended", "reportError"],
    stopped: ["ended", "reportCancelled"],
    left: ["ended", "reportCancelled"],
    finished: ["ended", "reportOk"],
    ...TOLD,
    metered: ["ended", "reportOk"],
  },
  answering: {
    failed: ["ended", "reportError"],
    broke: ["ended", "reportError"],
    stopped: ["ended", "reportCancelled"],
    left: ["ended", "reportCancelled"],
    finished: ["ended", "reportOk"],
    ...TOLD,
    metered: ["ended", "reportOk"],
  },
  ended: {
    fetch: ["deciding", "nothing"], // a title is tried again inside the SDK
    metered: ["ended", "reportUsage"],
  },
}

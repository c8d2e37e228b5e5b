// What is known of the sessions of one project.

import type { AssistantMessage } from "@opencode-ai/sdk"
import { remember } from "../remember.ts"
import type { Attempt } from "./attempt.ts"
import type { History } from "./history.ts"
import type { Question } from "./question.ts"
import type { Moved } from "./switching.ts"

export type Session = {
  readonly id: string
  /** The latest request of a step. */
  attempt?: Attempt
  /** Titles and summaries under way. */
  readonly aside: Set<Attempt>
  /** Asked for the step that OpenCode makes ready. */
  ahead?: Question
  /** The move that the next request is to follow. */
  moved?: Moved
  /** What OpenCode is writing. */
  draft?: AssistantMessage
  /** What OpenCode sends. */
  history: History
}

export class Sessions {
  readonly #known = new Map<string, Session>()

  find(id: string): Session | undefined {
    return this.#known.get(id)
  }

  /** The session of this name, which is used now: of very many the longest unused are forgotten. */
  use(id: string): Session {
    return remember(this.#known, id, this.#known.get(id) ?? { id, aside: new Set(), history: [] })
  }

  forget(id: string): void {
    this.#known.delete(id)
  }
}

// Leads a step of OpenCode 1.x elsewhere: OpenCode looks up provider, key and format of a model's object
// again for each try of a step, so that object is changed in place.

import type { PluginInput } from "@opencode-ai/plugin"
import type { Model } from "@opencode-ai/sdk"
import { isSame, type Target } from "../daemon/messages.ts"
import { note } from "../debug.ts"
import { remember } from "../remember.ts"
import { overwrite, replaceInCatalogue, type Models } from "./internals.ts"
import type { Session } from "./session.ts"

const MISSES = 2 // in a row, until OpenCode is taken for one that does not follow: each costs one of its five tries
const AGAIN = 10 * 60_000 // ms until that is tried again

/** A model of OpenCode's catalogue: as it was, and as it is handed out. */
export type Entry = {
  readonly first: Model
  now: Model
  /** The sessions that are moved away from it. */
  readonly movers: Set<string>
  /** How often it has been put back: a request that differs after that says nothing of OpenCode. */
  restores: number
}

/** A move of one session: to where, and how often the entry had been put back before it. */
export type Moved = { to: Target; restores: number }

export const placeOf = (model: Model): Target => ({ provider: model.providerID, model: model.id })

export class Switching {
  readonly #client: PluginInput["client"]
  readonly #tell: (fact: string, word: string, message: string) => void
  readonly #entries = new WeakMap<Model, Entry>() // by the objects that were handed out
  readonly #firsts = new Map<string, Model>() // by place: OpenCode lists the moved ones in their stead
  #misses = 0
  #missed = -Infinity

  constructor(
    client: PluginInput["client"],
    tell: (fact: string, word: string, message: string) => void,
  ) {
    this.#client = client
    this.#tell = tell
  }

  /** Whether OpenCode sends the next try of a step to where its model was moved. */
  get follows(): boolean {
    return this.#misses < MISSES || Date.now() > this.#missed + AGAIN
  }

  /** The entry that a request's model belongs to. From its second request on a session finds a copy of
   *  its own, so that no session sees the changes of another one. */
  entryOf(live: Model, models: Models | undefined): Entry {
    const known = this.#entries.get(live)
    if (known) return known
    const { provider, model } = placeOf(live)
    const first = remember(this.#firsts, `${provider}/${model}`, structuredClone(live))
    const entry: Entry = { first, now: first, movers: new Set(), restores: 0 }
    this.#entries.set(live, entry)
    const get = () => {
      const copy = structuredClone(entry.now)
      this.#entries.set(copy, entry)
      return copy
    }
    const set = (model: Model) => {
      entry.now = model
    }
    replaceInCatalogue(models, live, { get, set })
    return entry
  }

  /** OpenCode's own model of that name, with what it needs to be asked. */
  async find({ provider, model }: Target): Promise<Model | undefined> {
    const known = this.#firsts.get(`${provider}/${model}`)
    if (known) return known
    const { data } = await this.#client.config.providers()
    const found = data?.providers.find(({ id }) => id === provider)?.models[model]
    if (!found)
      this.#tell(`model ${provider}/${model}`, "", `OpenCode has no model ${provider}/${model}.`)
    return found
  }

  /** Has the next try of a session's step go elsewhere. */
  move(session: Session, entry: Entry, live: Model, model: Model): void {
    overwrite(live, model)
    entry.now = model
    entry.movers.add(session.id)
    session.moved = { to: placeOf(model), restores: entry.restores }
  }

  /** Puts a session's model back. What OpenCode hands out stays moved while another session is. */
  restore(session: Session, entry: Entry, live: Model): void {
    overwrite(live, entry.first)
    entry.movers.delete(session.id)
    session.moved = undefined
    entry.restores += 1
    if (entry.movers.size === 0) entry.now = entry.first
  }

  /** Looks whether the request after a move went where it was to go. One miss says little: another
   *  session may have put the model back in between. */
  watch({ moved }: Session, entry: Entry, live: Model): void {
    if (!moved) return
    if (isSame(placeOf(live), moved.to)) {
      this.#misses = 0
    } else if (entry.restores === moved.restores) {
      this.#misses += 1
      this.#missed = Date.now()
      note(`a switch within a step was not followed (${this.#misses})`)
      const message = "This OpenCode does not follow a switch within a turn."
      if (!this.follows) this.#tell("follows", "", message)
    }
  }
}

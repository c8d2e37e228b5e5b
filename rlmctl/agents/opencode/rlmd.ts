// The shim between OpenCode and rlmd, the daemon that knows every provider's limits.
//
// It asks before each request where that should go, tells what came of it, and does what the
// answer says: every decision is the daemon's. Without a daemon OpenCode works as if this file were
// not here: nothing waits beyond a deadline, nothing throws. Prompts, answers and request headers do
// not leave the process; what an error repeats of them is taken out of it first (rlmd/answers/).
// `rlmctl install opencode` puts it and its parts in their place.

import { server } from "./rlmd/v1/plugin.ts" // OpenCode 1.x calls this,
import { setup } from "./rlmd/v2/plugin.ts" // and 2.x this

export default { id: "rlmd", server, setup }

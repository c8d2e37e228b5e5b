// The shim as OpenCode 1.x before 1.14 takes it: there every export of a plugin's file is called as a
// function. rlmd.ts says what the shim is; newer versions take that form.

import { server } from "./rlmd/v1/plugin.ts"

export default Object.assign(server, { id: "rlmd", server })

import { readFileSync } from "node:fs";
import { fixLoader } from "./fixed-loader.ts";
import { type Loader, loaderPath, prefix } from "./loader.ts";
import type { Entry } from "./tar.ts";

/**
 * What stands in `/opt/shimctl` on a host without a usual glibc, and in the image: the executable, and the libraries
 * that it is bound to. The executable comes first, and alone, as it is what takes long to compress.
 */
export function portable(executable: string, loader: Loader): { program: Entry[]; libraries: Entry[] } {
  const bytes = readFileSync(executable);
  fixLoader(bytes, loaderPath, prefix);
  const at = (name: string) => `${prefix.slice(1)}/${name}`;
  return {
    // Only the folder of ours: unpacking never changes the mode of the host's /opt.
    program: [
      { name: at(""), mode: 0o755 },
      { name: at("shimctl"), mode: 0o755, bytes },
    ],
    libraries: loader.files.map(({ name, bytes }) => ({ name: at(name), mode: 0o755, bytes })),
  };
}

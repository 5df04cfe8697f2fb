import { cached, fill, made, run } from "../build/cache.ts";

const version = "1.20.1";
const module = "github.com/NVIDIA/nvidia-container-toolkit";

/** The peer that makes the same one-handler edit. */
export interface Peer {
  readonly version: string;
  readonly binary: string;
}

/**
 * nvidia-ctk, built from its Go module with its own release's linker flags, once: it then stands in the cache
 * of the engines. `undefined` where it cannot be had (it needs Go and a C compiler); why is on stderr.
 */
export async function nvidiaCtk(): Promise<Peer | undefined> {
  const name = `nvidia-ctk-${version}`;
  const missing = await fill(name, async (folder) => {
    const bin = await made(`${folder}/bin`);
    const program = `${module}/cmd/nvidia-ctk@v${version}`;
    await run(["go", "install", "-trimpath", "-ldflags", "-s -w -extldflags=-Wl,-z,lazy", program], {
      cwd: folder,
      env: { GOBIN: bin, CGO_ENABLED: "1" },
    });
    return { version, from: [program] };
  });
  return missing === undefined ? { version, binary: cached(name, "bin", "nvidia-ctk") } : undefined;
}

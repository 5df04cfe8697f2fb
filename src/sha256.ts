import process from "node:process";

/** The hash that a runtime has built in; the part of Bun's that is used here. */
interface Native {
  readonly CryptoHasher?: new (
    algorithm: "sha256",
  ) => { update(content: string | Uint8Array): void; digest(encoding: "hex"): string };
}

/**
 * SHA-256 in hex. To load `node:crypto` takes 2 ms, a fifth of an install: it is loaded only where the runtime
 * has no hash without it.
 */
export function sha256(content: string | Uint8Array): string {
  const { CryptoHasher } = (globalThis as { readonly Bun?: Native }).Bun ?? {};
  if (CryptoHasher === undefined)
    return process.getBuiltinModule("node:crypto").createHash("sha256").update(content).digest("hex");
  const hasher = new CryptoHasher("sha256");
  hasher.update(content);
  return hasher.digest("hex");
}

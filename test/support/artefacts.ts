import { existsSync } from "node:fs";
import { join } from "node:path";
import { dist, source } from "../../build/source.ts";
import { nativeTarget } from "../../build/target.ts";
import { whyNot } from "./needs.ts";

/** What `npm run build` and `npm run image` have made. */
export const artefact = {
  executable: join(dist, `shimctl-linux-${nativeTarget().arch}`),
  archive: join(dist, `shimctl-linux-${nativeTarget().arch}.tar.zst`),
  image: join(dist, "shimctl-image.oci.tar"),
  gzipImage: join(dist, "shimctl-image-gzip.oci.tar"),
  /** The name of both images, as containerd imports them. */
  reference: `localhost/shimctl:${source().version}`,
};

/** What is in the image for this machine, as files. */
export const imageRoot = join(dist, "root", nativeTarget().ociArch);

/** Like `whyNot`, for tests of artefacts: those have to be there. */
export function whyNotArtefacts(what: string, needs: Parameters<typeof whyNot>[1]): string | undefined {
  const missing = [artefact.executable, artefact.archive, artefact.image, artefact.gzipImage].filter(
    (path) => !existsSync(path),
  );
  return whyNot(what, {
    ...needs,
    ...(missing.length > 0 ? { also: "dist/ is not complete: npm run build && npm run image" } : {}),
  });
}

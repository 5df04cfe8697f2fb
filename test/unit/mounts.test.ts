import { describe, expect, test } from "bun:test";
import { isContainer, type Surroundings } from "../../src/host/container.ts";
import { parseMounts, partsOf } from "../../src/host/mounts.ts";

const pod = `\
700 600 0:99 / / ro,relatime master:1 - overlay overlay rw,lowerdir=/a,upperdir=/b
701 700 0:5 / /proc rw - proc proc rw
702 700 8:1 /etc/containerd /host/etc/containerd rw,relatime - ext4 /dev/sda1 rw
703 700 0:24 /dbus /host/run/dbus rw shared:2 master:3 - tmpfs tmpfs rw
`;
const points = parseMounts(pod)
  .map(({ point }) => point)
  .filter((point) => point.startsWith("/host"));

describe("of a root that is put together from mounts", () => {
  test("a path that no mount holds is none of the node's", () => {
    const isOfNode = partsOf("/host", points);
    const said = [
      "/host/etc/containerd",
      "/host/etc/containerd/conf.d/x",
      "/host/run/dbus/system_bus_socket",
    ].map((path) => isOfNode?.(path));
    expect(said).toEqual([true, true, true]);
    for (const path of ["/host", "/host/etc", "/host/etc/containerd2", "/host/run", "/host/run/dbus2"])
      expect([path, isOfNode?.(path)]).toEqual([path, false]);
  });

  test("every path is the node's where it is mounted as a whole, is a plain folder, or is /", () => {
    expect(partsOf("/host", ["/host", ...points])).toBeUndefined();
    expect(partsOf("/tmp/sandbox", [])).toBeUndefined();
    expect(partsOf("/", ["/", "/proc"])).toBeUndefined();
  });

  test("the type of a mount is found behind any number of optional fields", () => {
    expect(parseMounts(pod).map(({ type }) => type)).toEqual(["overlay", "proc", "ext4", "tmpfs"]);
  });
});

describe("a container is told from a machine", () => {
  const overlay = parseMounts(pod);
  const disk = parseMounts("1 0 8:1 / / rw - ext4 /dev/sda1 rw\n");
  const container: Surroundings = {
    inPod: true,
    mounts: overlay,
    isBooted: false,
    first: undefined,
    sharesRoot: true,
    seesKernel: false,
  };
  const containers: Readonly<Record<string, Partial<Surroundings>>> = {
    "shimctl as the first process of a pod": {},
    "the same under docker": { inPod: false },
    "beside a shell": { first: "sh" },
    "below a small init for containers": { first: "tini", inPod: false },
    "with the processes of its pod": { first: "pause", sharesRoot: false },
    "with the node's processes": { first: "systemd", sharesRoot: false, seesKernel: true },
    "with the node's processes, and not allowed to look into them": {
      first: "systemd",
      sharesRoot: undefined,
      seesKernel: true,
    },
    "on another file system than an overlay": { mounts: disk },
  };
  for (const [what, facts] of Object.entries(containers))
    test(`a container: ${what}`, () => expect(isContainer({ ...container, ...facts })).toBe(true));

  const machine: Surroundings = {
    inPod: false,
    mounts: disk,
    isBooted: true,
    first: "systemd",
    sharesRoot: true,
    seesKernel: true,
  };
  const machines: Readonly<Record<string, Partial<Surroundings>>> = {
    "with systemd": {},
    "with systemd, and an overlay as root": { mounts: overlay },
    "a node of kind, or an nspawn machine": { mounts: overlay, seesKernel: false },
    "with an init that nobody knows": { isBooted: false, first: "my-init", mounts: overlay },
    "the same, as seen by a user": {
      isBooted: false,
      first: "my-init",
      mounts: overlay,
      sharesRoot: undefined,
    },
    "that a pod has entered by nsenter": { inPod: true, isBooted: false, first: "init" },
    "a system container with BusyBox's init": {
      isBooted: false,
      first: "init",
      mounts: overlay,
      seesKernel: false,
    },
    "without an overlay, and no pod": { isBooted: false, first: undefined, seesKernel: false },
  };
  for (const [what, facts] of Object.entries(machines))
    test(`a machine: ${what}`, () => expect(isContainer({ ...machine, ...facts })).toBe(false));
});

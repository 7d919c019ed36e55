"""A gateway in a virtual machine: Debian 13 with a kernel that has ESP, which the lab's own kernel need not have.

QEMU emulates the processor, so nothing here is ever timed. The image is made once, in some minutes: the files of
`lab.trixie`, further packages unpacked over them, and an `/init` of our own. The machine has two network interfaces,
whose other ends (`wan` and `wan2`) are in the client's namespace, and a shell on a TCP port that the lab alone reaches.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from lab import trixie
from lab.machines import LabError, Machine, host_run
from lab.network import GATEWAY_IPV4, HIDDEN_NETWORKS

from release.tools import kept

STORE = Path("/tmp/ikeclient-guest")
SHELL_PORT = 2323
TOOLS = ("qemu-system-x86", "e2fsprogs", "busybox-static", "cpio", "xz-utils", "debootstrap", "kmod")
_PACKAGES = (
    *("libreswan", "openiked", "busybox-static", "libnss3", "libnspr4", "libnss3-tools", "libunbound8", "libldns3t64"),
    *("libevent-2.1-7t64", "libevent-core-2.1-7t64", "libevent-pthreads-2.1-7t64", "kmod", "libkmod2", "openssl"),
    *(
        "libcurl4t64",
        "libcurl3t64-gnutls",
        "libgnutls30t64",
        "libnghttp3-9",
        "libngtcp2-16",
        "libngtcp2-crypto-gnutls8",
    ),
)
_MODULES = (
    *("virtio_net", "virtio_blk", "esp4", "esp6", "xfrm_user", "xfrm4_tunnel", "xfrm6_tunnel", "xfrm_interface"),
    *("af_key", "gcm", "ccm", "seqiv", "echainiv", "authenc", "cbc", "ctr", "chacha20poly1305", "aesni_intel"),
)
_INIT = f"""#!/bin/sh
mount -t proc p /proc; mount -t sysfs s /sys; mount -t devtmpfs d /dev; mount -t tmpfs t /run; mount -t tmpfs t /tmp
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
for module in {" ".join(_MODULES)}; do modprobe $module 2>/dev/null; done
mkdir -p /cfg; mount -t ext4 /dev/vdb /cfg
ip link set lo up
for number in 1 2; do
  device=eth$((number - 1))
  ip addr add 10.$number.0.1/24 dev $device; ip addr add fd0$number::1/64 dev $device nodad; ip link set $device up
done
ip addr add 10.99.0.1/32 dev lo; ip addr add fd99::1/128 dev lo
echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding
for device in all default eth0 eth1; do
  echo 0 >/proc/sys/net/ipv4/conf/$device/rp_filter; echo 0 >/proc/sys/net/ipv4/conf/$device/send_redirects
done
ip route add 10.88.0.0/16 dev eth0  # libreswan and iked install no route to their pool
busybox nc -ll -p {SHELL_PORT} -e /bin/sh &
sh /cfg/start.sh >/run/start.log 2>&1
echo GUEST-READY >/dev/console
while :; do sleep 3600; done
"""
_FIRST_INIT = """#!/bin/sh
b=/bin/busybox
$b mount -t devtmpfs d /dev; $b mount -t proc p /proc; $b insmod /virtio_blk.ko
tries=0
while [ ! -b /dev/vda ] && [ $tries -lt 100 ]; do $b sleep 0.1; tries=$((tries + 1)); done
$b mount -t ext4 /dev/vda /mnt; $b umount /proc
exec $b switch_root /mnt /init.sh
"""


def obtain() -> Path:
    """The directory with kernel, initrd and image, made if they are not there; raises LabError."""
    return kept(STORE, _make)


def _make(_: Path) -> None:
    base = trixie.obtain()
    debs, root, first = STORE / "debs", STORE / "root", STORE / "first"
    for directory in (STORE / "apt/lists/partial", STORE / "apt/cache/archives/partial", debs, *_folders(first)):
        directory.mkdir(parents=True)
    sources = (
        "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian trixie main\n"
    )
    (STORE / "apt/sources.list").write_text(sources)
    options = f'Dir::State::Lists "{STORE}/apt/lists";\nDir::Cache "{STORE}/apt/cache";\n'
    options += f'Dir::Etc::sourcelist "{STORE}/apt/sources.list";\nDir::Etc::sourceparts "-";\n'
    (STORE / "apt/apt.conf").write_text(options)
    _run("apt-get", "update", "-qq")
    kernel = _run("apt-cache", "depends", "linux-image-cloud-amd64").partition("Depends: ")[2].split()[0]
    for package in (kernel, *_PACKAGES):
        _run("apt-get", "download", package, cwd=debs)
    _run("cp", "-a", "--reflink=auto", f"{base}/.", str(root))
    shutil.rmtree(root / "var/cache/apt", ignore_errors=True)
    for deb in sorted(debs.glob("*.deb")):
        _run("dpkg-deb", "-x", str(deb), str(root))
    for name in ("cfg", "run", "var/run", "proc", "sys", "dev"):
        (root / name).mkdir(parents=True, exist_ok=True)
    image = next((root / "boot").glob("vmlinuz-*"))
    shutil.copy(image, STORE / "vmlinuz")
    version = image.name.removeprefix("vmlinuz-")
    _run("chroot", str(root), "/usr/sbin/depmod", version)
    _script(root / "init.sh", _INIT)
    _run("truncate", "-s", "2G", str(STORE / "root.img"))
    _run("mke2fs", "-q", "-F", "-t", "ext4", "-d", str(root), str(STORE / "root.img"))
    shutil.copy("/bin/busybox", first / "bin/busybox")
    (first / "bin/sh").symlink_to("busybox")
    packed = root / f"usr/lib/modules/{version}/kernel/drivers/block/virtio_blk.ko.xz"
    (first / "virtio_blk.ko").write_bytes(subprocess.run(["xz", "-dc", packed], capture_output=True, check=True).stdout)
    _script(first / "init", _FIRST_INIT)
    _run("sh", "-ec", f"find . | cpio -o -H newc 2>/dev/null | gzip -1 >{STORE}/initrd", cwd=first)
    shutil.rmtree(root)


def _folders(first: Path) -> list[Path]:
    return [first / name for name in ("bin", "mnt", "dev", "proc")]


def _script(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def _run(*argv: str, cwd: Path = STORE) -> str:
    return host_run("env", f"--chdir={cwd}", f"APT_CONFIG={STORE}/apt/apt.conf", *argv, timeout=900).stdout


class Guest:
    """A running virtual machine beside `client`, which gets its two cables; nothing of it outlives `close`."""

    def __init__(self, client: Machine, directory: Path, files: Mapping[str, str | bytes], script: str) -> None:
        store = obtain()
        self._client = client
        for number in (1, 2):
            device = "wan" if number == 1 else "wan2"
            client.ip("tuntap", "add", device, "mode", "tap", "vnet_hdr")
            client.ip("link", "set", device, "up")
            client.ip("addr", "add", f"10.{number}.0.2/24", "dev", device)
            client.ip("addr", "add", f"fd0{number}::2/64", "dev", device, "nodad")
        client.ip("route", "add", "default", "via", GATEWAY_IPV4)
        hidden = (
            f'oifname "wan*" ip daddr {HIDDEN_NETWORKS[0]} drop',
            f'oifname "wan*" ip6 daddr {HIDDEN_NETWORKS[1]} drop',
        )
        client.add_rules("output", *hidden)  # only a tunnel leads there
        configuration = directory / "cfg"
        for name, content in {**files, "start.sh": script}.items():
            path = configuration / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        _run("truncate", "-s", "16M", str(directory / "cfg.img"))
        _run("mke2fs", "-q", "-F", "-t", "ext4", "-d", str(configuration), str(directory / "cfg.img"))
        _run("cp", "--reflink=auto", "--sparse=always", str(store / "root.img"), str(directory / "root.img"))
        self._console = directory / "console"
        with self._console.open("w") as console:
            command = self._command(store, directory)
            self._process = client.start(*command, stdin=subprocess.DEVNULL, stdout=console, stderr=console)
        self._wait()

    @staticmethod
    def _command(store: Path, directory: Path) -> list[str]:
        words = [
            "qemu-system-x86_64",
            "-accel",
            "tcg,thread=multi",
            "-cpu",
            "Westmere,+rdrand",
            "-m",
            "900",
            "-smp",
            "1",
        ]
        words += ["-nographic", "-no-reboot", "-kernel", str(store / "vmlinuz"), "-initrd", str(store / "initrd")]
        words += ["-append", "console=ttyS0 quiet panic=1"]
        for disk in ("root.img", "cfg.img"):
            words += ["-drive", f"file={directory / disk},format=raw,if=virtio"]
        for number, device in enumerate(("wan", "wan2"), 1):
            words += ["-netdev", f"tap,id=n{number},ifname={device},script=no,downscript=no,vhost=off"]
            words += ["-device", f"virtio-net-pci,netdev=n{number},mac=52:54:00:00:00:0{number}"]
        return words

    def _wait(self) -> None:
        deadline = time.monotonic() + 240
        while "GUEST-READY" not in self.console:
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.close()
                raise LabError(f"the virtual machine did not come up: {self.console[-800:]}")
            time.sleep(0.2)

    @property
    def console(self) -> str:
        """What the machine has said while it booted."""
        return self._console.read_text(errors="replace")

    def run(self, command: str, *, timeout: float = 20.0) -> str:
        """What a shell of the machine answers."""
        script = f"exec 3<>/dev/tcp/{GATEWAY_IPV4}/{SHELL_PORT}; printf '%s\\nexit\\n' \"$0\" >&3; cat <&3"
        return self._client.run(
            "timeout", str(timeout), "bash", "-c", script, command, check=False, timeout=timeout + 10
        ).stdout

    def close(self) -> None:
        """Turn it off."""
        self._process.kill()
        self._process.wait(20)

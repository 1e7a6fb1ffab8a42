"""Programs that try to get out, to stay, to use up the machine, or to pass for right; each with the verdicts allowed.

``ESCAPED`` in the output means that an attempt worked. A program of the first list is run as it is; one of the second
defines ``double`` and is checked with ``assert double(4) == 8`` and the like, which none of them computes.
"""

# ruff: noqa: E501  (programs are kept one statement a line, as they are run)

from __future__ import annotations

MARK = "entlaw_attack"

TRY = """
def attempt(what, act):
    try:
        result = act()
    except BaseException as error:
        print("contained:", what, type(error).__name__)
    else:
        print("ESCAPED", what, str(result)[:200])
"""

# name: (program, verdicts allowed)
CONTAINED: dict[str, tuple[str, set[str]]] = {
    # processes
    "fork bomb": ("import os\nwhile True:\n    try: os.fork()\n    except OSError: pass", {"timeout"}),
    "fork bomb that ignores signals": (
        "import os, signal\nfor n in range(1, 64):\n    try: signal.signal(n, signal.SIG_IGN)\n"
        "    except (OSError, ValueError): pass\nwhile True:\n    try: os.fork()\n    except OSError: pass",
        {"timeout"},
    ),
    "fork bomb, sleeping": (
        "import os, time\nfor _ in range(12):\n    try: os.fork()\n    except OSError: pass\ntime.sleep(1000)",
        {"timeout"},
    ),
    "many threads": (
        "import threading, time\nn = 0\ntry:\n    for _ in range(5000):\n"
        "        threading.Thread(target=time.sleep, args=(1000,), daemon=True).start(); n += 1\n"
        "except RuntimeError: print('contained')\nassert n < 100, 'ESCAPED'",
        {"exited"},
    ),
    "daemon by double fork": (
        "import os, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n"
        "        while True: time.sleep(1)\n    os._exit(0)\nprint('parent done')",
        {"exited"},
    ),
    "setsid child that ignores SIGTERM and SIGHUP": (
        "import os, signal, time\nif os.fork() == 0:\n    os.setsid()\n    signal.signal(15, signal.SIG_IGN)\n"
        "    signal.signal(1, signal.SIG_IGN)\n    time.sleep(1000)\nprint('parent done')",
        {"exited"},
    ),
    "child holds the output open": (
        "import os, time\nif os.fork() == 0:\n    time.sleep(1000)\nos._exit(0)",
        {"exited"},
    ),
    "kill the parent": (
        TRY
        + "import os, signal\nos.kill(os.getppid(), 9) if os.getppid() > 1 else attempt('init', lambda: 1 / 0)\n"
        "print('still here')",
        {"exited", "failed", "killed"},
    ),
    "kill all processes": (
        "import os\ntry: os.kill(-1, 9)\nexcept OSError as e: print(e)",
        {"exited", "failed", "killed"},
    ),
    "kill every pid": (
        "import os\nfor pid in range(1, 70000):\n    if pid != os.getpid():\n        try: os.kill(pid, 9)\n"
        "        except OSError: pass",
        {"exited", "failed", "killed"},
    ),
    "stop itself": ("import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)", {"timeout", "failed"}),
    "run a shell": (
        TRY + "import subprocess\nattempt('sh', lambda: subprocess.run(['/bin/sh', '-c', 'id']))",
        {"exited"},
    ),
    "run the interpreter": (
        TRY
        + "import subprocess, sys\nattempt('python', lambda: subprocess.run([sys.executable, '-c', '1']))",
        {"exited"},
    ),
    # time
    "infinite loop": ("while True: pass", {"timeout"}),
    "infinite loop in C": ("sum(iter(int, 1))", {"timeout"}),
    "sleep": ("import time; time.sleep(1000)", {"timeout"}),
    "waits for a child that waits": (
        "import os, time\nif os.fork() == 0: time.sleep(1000)\nos.wait()",
        {"timeout"},
    ),
    "swallows SIGXCPU and SIGALRM": (
        "import signal\nfor n in (signal.SIGXCPU, signal.SIGALRM, signal.SIGTERM, signal.SIGINT):\n"
        "    signal.signal(n, lambda *_: None)\nwhile True: pass",
        {"timeout"},
    ),
    "catches every exception": (
        "while True:\n    try:\n        while True: pass\n    except BaseException: pass",
        {"timeout"},
    ),
    "work shared by children": (
        "import os\nfor _ in range(3): os.fork()\nwhile True: pass",
        {"timeout"},
    ),
    "catastrophic regex": ("import re; re.match(r'(a+)+$', 'a' * 60 + 'b')", {"timeout"}),
    "big power": ("x = 10 ** (10 ** 9)", {"timeout", "memory"}),
    "int to text": (
        "import sys; sys.set_int_max_str_digits(0)\nx = str(7 ** 40_000_000)",
        {"timeout", "memory"},
    ),
    "raises its own limits": (
        TRY
        + "import resource\nfor n in ('RLIMIT_CPU', 'RLIMIT_AS', 'RLIMIT_NPROC', 'RLIMIT_FSIZE', 'RLIMIT_NOFILE'):\n"
        "    attempt(n, lambda: resource.setrlimit(getattr(resource, n), (1 << 30, 1 << 30)))",
        {"exited"},
    ),
    # memory
    "memory bomb": ("x = []\nwhile True: x.append(bytearray(10_000_000))", {"memory"}),
    "memory bomb that catches MemoryError": (
        "x = []\nwhile True:\n    try: x.append(bytearray(1_000_000))\n    except MemoryError: pass",
        {"memory", "timeout"},
    ),
    "memory bomb in children": (
        "import os, time\nfor _ in range(3): os.fork()\nx = bytearray(60_000_000)\n"
        "for i in range(0, len(x), 4096): x[i] = 1\ntime.sleep(1000)",
        {"memory"},
    ),
    "one huge object": ("x = bytearray(1 << 40)", {"memory"}),
    "anonymous files": (
        TRY + "import os\nattempt('memfd', lambda: os.memfd_create('x'))",
        {"exited"},
    ),
    "shared memory": (
        TRY + "import ctypes\nc = ctypes.CDLL(None, use_errno=True)\n"
        "def shm():\n    if c.shmget(0, ctypes.c_size_t(1 << 24), 0o1600) < 0: raise OSError(ctypes.get_errno(), 'shmget')\n"
        "attempt('shmget', shm)",
        {"exited"},
    ),
    "zip bomb": (
        "import zlib\nd = zlib.compress(bytes(50_000_000), 9)\nwhile True: d = zlib.compress(d * 60) ; x = zlib.decompress(d)\n",
        {"memory", "timeout"},
    ),
    "decompression bomb": (
        "import zlib\nd = zlib.compressobj(9)\nparts = [d.compress(bytes(1_000_000)) for _ in range(600)]\n"
        "x = zlib.decompress(b''.join(parts) + d.flush())",
        {"memory", "timeout"},
    ),
    "pickle bomb": (
        "import pickle\nprint(pickle.loads(b\"cos\\nsystem\\n(S'id; echo ESCAPED'\\ntR.\"))\n"
        "x = pickle.loads(b'\\x80\\x04' + b'\\x8e' + (1 << 40).to_bytes(8, 'little'))",
        {"failed", "memory"},
    ),
    "deep recursion": ("def f(): f()\nf()", {"failed"}),
    "deep recursion without a limit": (
        "import sys\nsys.setrecursionlimit(10 ** 9)\ndef f(): return f() + 1\nf()",
        {"memory", "killed", "timeout"},
    ),
    "deep recursion in C": (
        "import sys\nsys.setrecursionlimit(10 ** 9)\nx = []\nfor _ in range(10 ** 6): x = [x]\nrepr(x)",
        {"killed", "memory", "failed", "timeout"},
    ),
    "deeply nested source": ("eval('(' * 100_000 + ')' * 100_000)", {"failed", "memory", "killed"}),
    "segfault by ctypes": ("import ctypes; ctypes.string_at(0)", {"killed"}),
    "abort": ("import os; os.abort()", {"killed"}),
    # output
    "huge output": ("while True: print('x' * 10_000)", {"output"}),
    "huge output to stderr": ("import sys\nwhile True: sys.stderr.write('x' * 10_000)", {"output"}),
    "huge output by children": (
        "import os\nfor _ in range(3): os.fork()\nwhile True: os.write(1, b'x' * 60_000)",
        {"output"},
    ),
    # files
    "writes to home, tmp and elsewhere": (
        "import os, pathlib\n"
        + TRY
        + "for d in ('/', '/root', '/home', '/var/tmp', '/dev/shm', '/usr/lib', '/etc', '/dev',\n"
        "          '/run', os.path.dirname(os.__file__), '@HOME@', '@REPO@', '@TMP@'):\n"
        f"    attempt(d, lambda: pathlib.Path(d, '{MARK}').write_text('x'))",
        {"exited"},
    ),
    "writes to its own tmp": (f"open('{MARK}', 'w').write('x')\nprint('own tmp: contained')", {"exited"}),
    "huge file": ("with open('big', 'wb') as f:\n    while True: f.write(bytes(1 << 20))", {"failed"}),
    "sparse file": (
        "import os\nfd = os.open('big', os.O_CREAT | os.O_RDWR)\nos.ftruncate(fd, 1 << 40)",
        {"failed"},
    ),
    "many big files": (
        "import time\nfor i in range(1000):\n    with open(f'f{i}', 'wb') as f: f.write(bytes(1 << 20)); f.flush()\n"
        "    time.sleep(0.01)",
        {"failed", "files"},
    ),
    "many files": (
        "import time\nfor i in range(200_000):\n    open(f'f{i}', 'w').close()\n    if i % 500 == 0: time.sleep(0.05)",
        {"failed", "files"},
    ),
    "many folders, deep": (
        "import os, time\nfor i in range(200_000):\n    os.mkdir('d'); os.chdir('d')\n    if i % 500 == 0: time.sleep(0.05)",
        {"failed", "files", "memory"},
    ),
    "many open files": ("x = []\nwhile True: x.append(open('/dev/null'))", {"failed"}),
    "folder nobody may enter": (
        "import os\nos.mkdir('d'); open('d/f', 'w').close(); os.chmod('d', 0)",
        {"exited"},
    ),
    "symlink out": (
        TRY + "import os\nfor to in ('/etc/shadow', '/etc/passwd', '@CANARY@', '/proc/1/environ'):\n"
        "    os.symlink(to, 'link')\n    attempt(to, lambda: open('link').read())\n"
        "    attempt(to, lambda: open('link', 'a').write('x'))\n    os.unlink('link')",
        {"exited"},
    ),
    "hard link": (
        TRY
        + "import os\nfor to in ('/etc/passwd', '@CANARY@', os.__file__):\n    attempt(to, lambda: os.link(to, 'link'))",
        {"exited"},
    ),
    "dots out of tmp": (
        TRY + "import os\nattempt('dots', lambda: open('../' * 20 + 'etc/passwd').read())\n"
        "attempt('canary', lambda: open('../' * 20 + '@CANARY@'.lstrip('/')).read())",
        {"exited"},
    ),
    "secret files": (
        TRY
        + "import glob\nfor p in ('/etc/shadow', '/etc/passwd', '/etc/hosts', '@CANARY@', '/root/.bashrc'):\n"
        "    attempt(p, lambda: open(p).read())\n"
        "attempt('tests on disk', lambda: open('@REPO@/tests/tasks/test_code.py').read())",
        {"exited"},
    ),
    "device files": (
        TRY + "import os\nattempt('mknod', lambda: os.mknod('sda', 0o60666, os.makedev(8, 0)))\n"
        "for d in ('/dev/mem', '/dev/kmsg', '/dev/sda', '/dev/vda', '/dev/tty', '/dev/fuse', '/dev/kvm'):\n"
        "    attempt(d, lambda: open(d, 'rb').read(1))",
        {"exited"},
    ),
    "set-uid file": (
        TRY + "import os\nopen('p', 'w').write('#!/bin/sh\\nid')\nos.chmod('p', 0o4755)\n"
        "attempt('exec', lambda: os.spawnv(os.P_WAIT, './p', ['p']) and 1 / 0)\nattempt('setuid', lambda: os.setuid(0))",
        {"exited"},
    ),
    "chroot and mounts": (
        TRY + "import os, ctypes\nc = ctypes.CDLL(None, use_errno=True)\n"
        "def need(r):\n    if r < 0: raise OSError(ctypes.get_errno(), 'refused')\n"
        "attempt('chroot', lambda: os.chroot('.'))\n"
        "attempt('mount', lambda: need(c.mount(b'none', b'/tmp', b'tmpfs', 0, None)))\n"
        "attempt('umount', lambda: need(c.umount2(b'/tmp', 2)))\n"
        "attempt('unshare', lambda: need(c.unshare(0x10000000)))\n"
        "attempt('clone', lambda: need(c.syscall(56, 0x10000000 | 17, 0, 0, 0, 0)))\n"
        "attempt('setns', lambda: need(c.setns(0, 0)))",
        {"exited"},
    ),
    # secrets and other processes
    "environment": (
        "import os\nassert not {k for k in os.environ if k not in ('HOME', 'TMPDIR', 'LANG')}, 'ESCAPED'\n"
        "assert os.environb.get(b'ENTLAW_SECRET') is None, 'ESCAPED'\nprint('contained')",
        {"exited"},
    ),
    "environment in libc and memory": (
        "import ctypes\nc = ctypes.CDLL(None)\nc.getenv.restype = ctypes.c_char_p\n"
        "assert c.getenv(b'ENTLAW_SECRET') is None, 'ESCAPED'\n"
        "import gc\nassert not any('canary-7f3' 'a9' in o for o in gc.get_objects() if isinstance(o, str)), 'ESCAPED'\n",
        {"exited"},
    ),
    "proc": (
        TRY
        + "for p in ('/proc/1/environ', '/proc/self/environ', '/proc/self/mem', '/proc/1/mem', '/proc/self/maps',\n"
        "          '/proc/1/root/etc/shadow', '/proc/self/exe', '/proc/kcore', '/proc/self/status', '/sys/kernel/uevent_helper',\n"
        "          '/proc/@PID@/environ', '/proc/@PID@/mem', '/proc/@PID@/root/etc/passwd'):\n"
        "    attempt(p, lambda: open(p, 'rb').read(1))\n"
        "for p in ('/proc/sysrq-trigger', '/proc/sys/kernel/core_pattern', '/proc/self/oom_score_adj'):\n"
        "    attempt(p, lambda: open(p, 'w').write('b'))",
        {"exited"},
    ),
    "ptrace": (
        TRY + "import ctypes, os\nc = ctypes.CDLL(None, use_errno=True)\n"
        "def need(r):\n    if r < 0: raise OSError(ctypes.get_errno(), 'refused')\n"
        "for pid in (1, os.getppid(), @PID@):\n    attempt('ptrace', lambda: need(c.ptrace(16, pid, 0, 0)))\n"
        "buffer = ctypes.create_string_buffer(64)\nv = (ctypes.c_size_t * 2)(ctypes.addressof(buffer), 8)\n"
        "attempt('process_vm_readv', lambda: need(c.process_vm_readv(os.getpid(), v, 1, v, 1, 0)))\n"
        "attempt('traceme', lambda: need(c.ptrace(0, 0, 0, 0)))",
        {"exited"},
    ),
    "kernel entrances": (
        TRY + "import ctypes, platform\nc = ctypes.CDLL(None, use_errno=True)\n"
        "def need(r):\n    if r < 0: raise OSError(ctypes.get_errno(), 'refused')\n"
        "calls = dict(bpf=321, keyctl=250, perf=298, userfaultfd=323, io_uring=425, kexec=246, init_module=175, reboot=169,\n"
        "             syslog=103, open_by_handle=304, pidfd_open=434, pidfd_getfd=438, clone3=435, fsopen=430, newest=467,\n"
        "             settime=164, sethostname=170, swapon=167, acct=163, iopl=172, quotactl=179, fanotify=300, x32=0x40000000 + 39)\n"
        "for name, n in calls.items():\n    attempt(name, lambda: need(c.syscall(ctypes.c_long(n), 0, 0, 0, 0, 0)))",
        {"exited"},
    ),
    "limits of another process": (
        TRY + "import ctypes, os\nc = ctypes.CDLL(None, use_errno=True)\n"
        "def need(r):\n    if r < 0: raise OSError(ctypes.get_errno(), 'refused')\n"
        "for pid in (1, os.getppid() or 1, @PID@):\n"
        "    attempt(pid, lambda: need(c.prlimit(pid, 7, (ctypes.c_ulong * 2)(1, 1), None)))",
        {"exited"},
    ),
    "inherited descriptors": (
        TRY + "import os\nfor fd in range(3, 1100): attempt(fd, lambda: os.fstat(fd)) if fd < 1024 else None",
        {"exited"},
    ),
    "writes to guessed result descriptors": (
        'import os\nfor fd in range(3, 300):\n    try: os.write(fd, b\'{"status": 0, "ready": true, "why": ""}\\n\')\n'
        "    except OSError: pass\nos._exit(7)",
        {"failed"},
    ),
    # network
    "network": (
        TRY
        + "import socket\nfor f in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX, socket.AF_NETLINK, socket.AF_PACKET, 38, 40):\n"
        "    for t in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW): attempt((f, t), lambda: socket.socket(f, t))",
        {"exited"},
    ),
    "names": (
        TRY + "import socket\nattempt('dns', lambda: socket.getaddrinfo('example.org', 80))",
        {"exited"},
    ),
    "web": (
        TRY
        + "import urllib.request\nattempt('http', lambda: urllib.request.urlopen('http://127.0.0.1:@PORT@', timeout=1))",
        {"exited"},
    ),
    "unix socket": (
        TRY + "import socket\nfor name in ('@SOCKET@', '\\0entlaw-abstract'):\n"
        "    attempt(name, lambda: socket.socket(socket.AF_UNIX).connect(name))",
        {"exited"},
    ),
    "root": (
        "import os\nassert os.getuid() != 0 and os.geteuid() != 0 and 0 not in os.getgroups(), 'ESCAPED'\n"
        + TRY
        + "attempt('setuid', lambda: os.setresuid(0, 0, 0))\nattempt('nice', lambda: os.nice(-5))",
        {"exited"},
    ),
}

# Programs that define ``double`` and pass for right without computing it.
FORGED: dict[str, str] = {
    "os._exit(0)": "import os\nos._exit(0)\ndef double(x): return 0",
    "os._exit(0) when called": "import os\ndef double(x): os._exit(0)",
    "sys.exit(0)": "import sys\ndef double(x): sys.exit(0)",
    "sys.exit(0) at once": "import sys\nsys.exit(0)",
    "raises KeyboardInterrupt": "def double(x): raise KeyboardInterrupt",
    "raises GeneratorExit": "def double(x): raise GeneratorExit",
    "raises StopIteration": "def double(x): raise StopIteration",
    "prints success": "print('PASSED', 'OK', '1 passed', '{\"finished\": true}')\ndef double(x): print('passed')",
    "equal to everything": (
        "class Yes:\n    __eq__ = __ge__ = __le__ = lambda *_: True\n    __ne__ = __lt__ = __gt__ = lambda *_: False\n"
        "    __hash__ = lambda s: 0\n    __bool__ = lambda s: True\ndef double(x): return Yes()"
    ),
    "number equal to everything": (
        "class Yes(int):\n    def __eq__(self, other): return True\n    def __ne__(self, other): return False\n"
        "    __hash__ = int.__hash__\ndef double(x): return Yes(1)"
    ),
    "list of things equal to everything": (
        "class Yes:\n    def __eq__(self, other): return True\n    def __sub__(self, other): return 0.0\n"
        "    __rsub__ = __sub__\n    __abs__ = lambda s: 0.0\n    def __lt__(self, o): return True\n"
        "def double(x): return Yes()"
    ),
    "learns what it is compared with": (
        "class Spy:\n    def __eq__(self, other):\n        global seen\n        seen = other\n        return other is not None\n"
        "    def __sub__(self, other): return 0\n    def __contains__(self, item): return True\n"
        "seen = None\ndef double(x): return Spy() if seen is None else seen"
    ),
    "mock.ANY": "from unittest.mock import ANY\ndef double(x): return ANY",
    "MagicMock": "from unittest.mock import MagicMock\ndouble = MagicMock()",
    "a standard function that fits": "from operator import truth as double",
    "exec as the solution": "double = exec",
    "a module as the solution": "import unittest.mock as double",
    "replaces built-ins": (
        "import builtins\nbuiltins.AssertionError = type('A', (BaseException,), {})\n"
        "builtins.abs = builtins.len = builtins.all = lambda *_: 0\nbuiltins.isinstance = lambda *_: True\n"
        "def double(x): return 1"
    ),
    "shadows what the tests compare with": (
        "def abs(x): return 0\ndef all(x): return True\nclass math:\n    isclose = fabs = staticmethod(lambda *a, **k: 0)\n"
        "class pytest:\n    approx = raises = staticmethod(lambda *a, **k: double)\n"
        "AssertionError = __build_class__ = isinstance = len = abs\ndef double(x): return 1"
    ),
    "defines the tests itself": (
        "def check(candidate): pass\ndef test_double(): pass\ncandidate = abs\n__all__ = []\ndef double(x): return 1"
    ),
    "replaces unittest and pytest": (
        "import unittest, sys, types\nunittest.TestCase.assertEqual = lambda *_: None\n"
        "unittest.TestCase.run = lambda *_: None\nsys.modules['pytest'] = types.ModuleType('pytest')\n"
        "def double(x): return 1"
    ),
    "replaces the sandbox's own modules": (
        "import sys\nfor name, m in list(sys.modules.items()):\n    if name.startswith('inside'):\n"
        "        for k, v in list(vars(m).items()):\n            if callable(v) and not k.startswith('__'):\n"
        "                try: setattr(m, k, lambda *a, **k: [True, ''])\n                except Exception: pass\n"
        "def double(x): return 1"
    ),
    "replaces the checker": (
        "import sys\nc = sys.modules['inside.checker']\nc.outcome = lambda test: (True, '')\nc.collect = lambda *a: []\n"
        "def double(x): return 1"
    ),
    "atexit": "import atexit, os\natexit.register(lambda: os._exit(0))\nraise SystemExit(0)",
    "exit hook": "import sys, os\nsys.excepthook = lambda *_: os._exit(0)\ndef double(x): raise ValueError",
    "reads the frames above": (
        "import sys\ndef double(x):\n    f = sys._getframe()\n    found = []\n    while f:\n"
        "        found += [v for v in [*f.f_locals.values(), *f.f_globals.values()] if isinstance(v, str) and 'ass' 'ert dou' 'ble(4)' in v]\n"
        "        f = f.f_back\n    return 2 * x if found else 'no tests'"
    ),
    "reads the heap": (
        "import gc\ndef double(x):\n    needle = ' '.join(['assert', 'double(4)', '==', '8'])\n    for o in gc.get_objects():\n"
        "        if isinstance(o, (list, tuple, dict)) and needle in repr(o)[:5000]: return 2 * x\n"
        "    return 'no tests'"
    ),
    "reads the disk": (
        "import os\ndef double(x):\n    for d, _, names in os.walk('/'):\n        for n in names:\n"
        "            if 'sandbox_attacks' in n or 'humaneval' in n.lower() or n == 'RECORD': return 2 * x\n    return 'no tests'"
    ),
    "writes a result to every descriptor": (
        'import os\ndef double(x):\n    data = b\'{"loaded": true, "finished": true, "results": [["1", true, ""]]}\'\n'
        "    for fd in range(0, 256):\n        try: os.write(fd, data)\n        except OSError: pass\n    return 1"
    ),
    "answers out of turn": (
        "import os, sys\nw = sys.modules['inside.wire']\ndef no(*_): raise ValueError\n"
        "for n in range(50):\n    try: w.Pipe(3, 4).send(w.encode(['answer', 'value', [['double', False, '']], -1, []], no))\n"
        "    except Exception: pass\ndef double(x): return 1"
    ),
    "garbage on the wire": ("import os\ndef double(x):\n    os.write(4, os.urandom(5000))\n    return 1"),
    "reference that does not exist": (
        "import os, sys\nw = sys.modules['inside.wire']\n"
        "def double(x):\n    w.Pipe(3, 4).send(w._part(b'l', w.encode('answer', None) + w.encode('value', None) +"
        " w._part(b'R', b'y' + (99).to_bytes(4, 'little')) + w.encode(-1, None) + w._part(b'l')))\n    return 1"
    ),
    "calls the tests' objects": (
        "import sys\ndef double(x):\n    c = sys.modules['inside.candidate']\n    return 1\n"
    ),
    "nested beyond measure": "x = []\nfor _ in range(100000): x = [x]\ndef double(y): return x",
    "contains itself": "x = []\nx.append(x)\ndef double(y): return x",
    "huge answer": "def double(x): return 'x' * 100_000_000",
    "hangs": "def double(x):\n    while True: pass",
    "catches the time-out": (
        "import signal\nfor s in (signal.SIGXCPU, signal.SIGALRM, signal.SIGTERM): signal.signal(s, lambda *_: None)\n"
        "def double(x):\n    while True:\n        try:\n            while True: pass\n        except BaseException: pass"
    ),
    "kills the checker": (
        "import os\ndef double(x):\n    for pid in range(1, 40000):\n        if pid != os.getpid():\n"
        "            try: os.kill(pid, 9)\n            except OSError: pass\n    return 1"
    ),
    "crashes": "import ctypes\ndef double(x): return ctypes.string_at(0)",
    "a thread that ends the process": (
        "import os, threading, time\nthreading.Thread(target=lambda: (time.sleep(0.2), os._exit(0))).start()\n"
        "def double(x):\n    time.sleep(1)\n    return 1"
    ),
    "the fork answers": "import os\ndef double(x):\n    os.fork()\n    return 1",
    "wrong": "def double(x): return x + 1",
    "does not exist": "def triple(x): return 3 * x",
    "no Python": "this is no program",
    "nothing": "",
}

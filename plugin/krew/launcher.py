#!/usr/bin/env python3
"""Start the plugin from the folder that this file is in, also through a link, as krew makes one.

Parts of it are compiled for one version of Python each: `lib/3.11` and so on. Old Pythons must understand this file.
"""

import os
import shutil
import sys

FOLDER = os.path.dirname(os.path.realpath(__file__))
SUPPORTED = sorted(os.listdir(os.path.join(FOLDER, "lib")), key=lambda name: int(name.split(".")[1]))


def main():
    own = "{}.{}".format(*sys.version_info[:2])
    if own not in SUPPORTED:
        for version in reversed(SUPPORTED):
            other = shutil.which("python" + version)
            if other:
                os.execv(other, [other, os.path.realpath(__file__), *sys.argv[1:]])
        needed = ", python".join(SUPPORTED)
        sys.stderr.write("kubectl ocr: needs one of python%s on PATH; python3 is %s\n" % (needed, own))
        return 127
    sys.path[:0] = [os.path.join(FOLDER, "app"), os.path.join(FOLDER, "lib", own)]
    if os.path.basename(sys.argv[0]).startswith("kubectl_complete"):
        from kubectl_ocr.completion import main as run
    else:
        from kubectl_ocr.__main__ import main as run
    return run()


if __name__ == "__main__":
    sys.exit(main())

#!/bin/sh
# A stand-in for AWS's Python 3.13 base image, made of what this machine has: for tests where no registry is reachable.
#   base_image.sh PYTHON_PREFIX WORK_FOLDER IMAGE_TAG      (DOCKER_HOST names the engine)
# Holds busybox, CPython without its tests, the shared libraries it needs, awslambdaric, boto3 and a bootstrap that
# sets the path as AWS does: the function, then the layers, then the runtime's own packages.
set -eu
prefix=$1 work=$2 tag=$3
root=$work/rootfs
rm -rf "$root"
mkdir -p "$root/bin" "$root/dev" "$root/etc/ssl/certs" "$root/opt" "$root/proc" "$root/root" "$root/sys" "$root/tmp" \
  "$root/usr/bin" "$root/var/lang" "$root/var/rapid" "$root/var/runtime" "$root/var/task"
chmod 1777 "$root/tmp"

cp /bin/busybox "$root/bin/busybox"
for applet in sh cat chmod cp env ln ls mkdir mv ps rm sleep; do ln -s busybox "$root/bin/$applet"; done

tar -C "$prefix" -cf - --exclude='lib/python3.13/test' --exclude='lib/python3.13/idlelib' \
  --exclude='lib/python3.13/ensurepip' --exclude='lib/python3.13/tkinter' --exclude='lib/python3.13/site-packages' \
  --exclude='*tkinter*' --exclude='*.a' --exclude='__pycache__' bin/python3.13 lib | tar -C "$root/var/lang" -xf -
mkdir -p "$root/var/lang/lib/python3.13/site-packages"
ln -s python3.13 "$root/var/lang/bin/python3"

# Libraries of the interpreter and its modules, the loader, and what manylinux wheels expect of any system.
{
  find "$root/var/lang" -type f \( -name '*.so*' -o -name python3.13 \) -exec ldd {} + 2>/dev/null |
    sed -n 's/.*=> \(\/[^ ]*\).*/\1/p' | grep -v "^$root"
  for library in libstdc++.so.6 libgcc_s.so.1 libnss_dns.so.2 libnss_files.so.2 libresolv.so.2 librt.so.1 libdl.so.2 \
    libpthread.so.0; do
    ldconfig -p | awk -v name="$library" '$1 == name && /x86-64/ {print $NF; exit}'
  done
  find /lib64/ -name 'ld-linux-x86-64.so.2'
} | sort -u | while read -r library; do
  mkdir -p "$root$(dirname "$library")"
  cp -L "$library" "$root$library"
done

"$prefix/bin/python3.13" -m pip install --quiet --disable-pip-version-check --target "$root/var/runtime" awslambdaric boto3
cat >"$root/var/runtime/bootstrap" <<'BOOTSTRAP'
#!/bin/sh
export AWS_EXECUTION_ENV=AWS_Lambda_python3.13 LAMBDA_RUNTIME_DIR=/var/runtime
export PYTHONPATH="/var/task:/opt/python/lib/python3.13/site-packages:/opt/python:/var/runtime"
exec /var/lang/bin/python3.13 -m awslambdaric "${_HANDLER:-$AWS_LAMBDA_FUNCTION_HANDLER}"
BOOTSTRAP
chmod 755 "$root/var/runtime/bootstrap"
printf 'root:x:0:0:root:/root:/bin/sh\nsbx_user1051:x:993:990::/tmp:/bin/sh\n' >"$root/etc/passwd"
printf 'root:x:0:\n' >"$root/etc/group"
echo 'hosts: files dns' >"$root/etc/nsswitch.conf"
cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"

libraries=/var/lang/lib:/lib/x86_64-linux-gnu:/usr/lib/x86_64-linux-gnu:/var/runtime:/var/task:/opt/lib
tar -C "$root" -c . | docker import --platform linux/amd64 -c 'ENV PATH=/var/lang/bin:/usr/bin:/bin:/opt/bin' \
  -c "ENV LD_LIBRARY_PATH=$libraries" -c 'ENV LAMBDA_TASK_ROOT=/var/task' -c 'ENV LAMBDA_RUNTIME_DIR=/var/runtime' \
  -c 'ENV LANG=en_US.UTF-8' -c 'WORKDIR /var/task' -c 'ENTRYPOINT ["/var/runtime/bootstrap"]' - "$tag" >/dev/null
rm -rf "$root"

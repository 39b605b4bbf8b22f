#!/bin/sh
# One of Alluxio's servers, a mount, or a command of its shell:
#   master | worker | proxy
#   mount FOLDER BUCKET   e.g. mount /outputs s3://outputs; nothing to do where the folder is there already
#   fuse FOLDER PATH      shows a folder of Alluxio, to be read, at a path of this container; needs root, /dev/fuse and SYS_ADMIN
#   fs ...                Alluxio's "fs" commands
# ALLUXIO_JAVA_OPTS holds -Dalluxio.…=… for whatever alluxio-site.properties leaves open; ALLUXIO_HEAP is the JVM's heap.
set -eu
home=/opt/alluxio
state=/var/lib/alluxio

alluxio() {
    # shellcheck disable=SC2086  # the options are words
    exec java "-Xmx${ALLUXIO_HEAP:-512m}" -Djava.net.preferIPv4Stack=true \
        -Dalluxio.home=$home -Dalluxio.conf.dir=$home/conf -Dalluxio.site.conf.dir=$home/conf \
        -Dalluxio.logs.dir=$state/logs -Dlog4j.configuration=file:$home/conf/log4j.properties \
        ${ALLUXIO_JAVA_OPTS:-} -cp "$home/conf:$home/lib/*" "$@"
}

case ${1:-} in
master)
    [ -d $state/journal/BlockMaster ] || (alluxio alluxio.cli.Format master)
    alluxio alluxio.master.AlluxioMaster
    ;;
worker) alluxio alluxio.worker.AlluxioWorker ;;
proxy) alluxio alluxio.proxy.AlluxioProxy ;;
mount)
    (alluxio alluxio.cli.fs.FileSystemShell test -d "$2") || alluxio alluxio.cli.fs.FileSystemShell mount "$2" "$3"
    ;;
fuse)
    alluxio -Dalluxio.fuse.jnifuse.libfuse.version=3 -Dalluxio.fuse.mount.options=ro,allow_other \
        "-Dalluxio.fuse.mount.alluxio.path=$2" "-Dalluxio.fuse.mount.point=$3" alluxio.fuse.AlluxioFuse
    ;;
fs)
    shift
    alluxio alluxio.cli.fs.FileSystemShell "$@"
    ;;
*)
    sed -n '2,7s/^# //p' "$0" >&2
    exit 2
    ;;
esac

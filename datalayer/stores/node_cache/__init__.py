"""``NodeCache``: copies of a cold store's committed files in a folder of this machine, shared by its processes.

What lies in the folder::

    objects/<hh>/<name>/pages     of one file: what it is, and a checksum of each page that is there
    objects/<hh>/<name>/data      its bytes, with holes where pages are not there
    tree/<store>/<path>           whole files once more, by hard links, under the names that they have in the store
    pins/<name>                   what is not dropped to make room; its time of change is when the pin ends
    staging/, trash/              entries not yet there, and no longer
    held                          how many bytes there are, and a lock of who makes room
"""

from datalayer.stores.node_cache.cache import NodeCache, Usage
from datalayer.stores.node_cache.folder import default_folder

__all__ = ["NodeCache", "Usage", "default_folder"]

#!/usr/bin/env python3
"""Validates Kubernetes' objects in files against Kubernetes' own schemas, strictly.

Objects are validated for the newest version and for the oldest that knows what they need; kinds
that are not Kubernetes' own (the Prometheus operator's, kustomize's) are named and passed over.
"""

import sys

import kubernetes_validate
import yaml

NEWEST = kubernetes_validate.latest_version()
OLDEST = "1.25"
# Containers that start in order and keep running.
OLDEST_WITH_NATIVE_SIDECARS = "1.29"


def objects(document):
    """The object, or those of a list."""
    if document.get("kind") == "List":
        return [one for item in document["items"] for one in objects(item)]
    return [document]


def has_native_sidecar(value):
    """Whether an init container keeps running, anywhere in the object."""
    if isinstance(value, dict):
        own = value.get("initContainers") or []
        return any("restartPolicy" in one for one in own) or any(
            map(has_native_sidecar, value.values())
        )
    return isinstance(value, list) and any(map(has_native_sidecar, value))


def validate(path, document):
    """The number of versions for which the object was found valid."""
    metadata = document.setdefault("metadata", {})
    # The tool wants a name; the API server makes one.
    metadata.setdefault("name", metadata.get("generateName", "unnamed") + "x")
    oldest = OLDEST_WITH_NATIVE_SIDECARS if has_native_sidecar(document) else OLDEST
    for version in (oldest, NEWEST):
        try:
            kubernetes_validate.validate(document, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            sys.exit(f"{path}: {document['kind']} {metadata['name']} for {version}: {error.message}")
    return 2


def main():
    """Validates the files of the command line."""
    done, foreign = 0, set()
    for path in sys.argv[1:]:
        with open(path, encoding="utf-8") as file:
            documents = [one for one in yaml.safe_load_all(file) if one]
        for document in [one for whole in documents for one in objects(whole)]:
            group = document["apiVersion"].split("/")[0]
            if group in ("monitoring.coreos.com", "kustomize.config.k8s.io"):
                foreign.add(document["kind"])
                continue
            done += validate(path, document)
    if not done:
        sys.exit("nothing was validated")
    print(f"{done} validations, {OLDEST} to {NEWEST}; passed over: {', '.join(sorted(foreign)) or 'nothing'}")


main()

"""Reads a rendered manifest from standard input and fails unless

- Kubernetes' own schemas of several versions accept each object, with no field that they do not know;
- each pod meets the restricted pod security standard (https://kubernetes.io/docs/concepts/security/
  pod-security-standards), as far as a pod can break it that has no host path, port or namespace;
- a component has done its work on every container and init container of every workload, and on nothing else; its own
  init container is the first and as it should be; the ConfigMaps that it names are there.

Prints lines of KEY TAB VALUE...: the workloads' kinds; the init container's image, command, environment, mount and memory; and
what the first container gets: environment, mount, and the file that is to be /etc/ld.so.preload, if there is one.
"""

import sys

import kubernetes_validate
import yaml

VERSIONS = ["1.28.3", "1.31.0", "1.34.1", "1.37.0"]
WORKLOADS = ["Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob"]
PRELOAD = "/etc/ld.so.preload"


def check(good, name, what):
    if not good:
        sys.exit(f"{name}: {what}")


def restricted(name, pod, container):
    of_pod, own = pod.get("securityContext", {}), container.get("securityContext", {})
    either = {**of_pod, **own}
    check(either.get("runAsNonRoot") is True, name, "runAsNonRoot is not true")
    check(either.get("runAsUser") != 0, name, "runAsUser is 0")
    check(either.get("seccompProfile", {}).get("type") == "RuntimeDefault", name, "seccompProfile")
    check(own.get("allowPrivilegeEscalation") is False, name, "allowPrivilegeEscalation is not false")
    check(own.get("capabilities") == {"drop": ["ALL"]}, name, "capabilities are not all dropped")
    check(own.get("readOnlyRootFilesystem") is True, name, "the root file system can be written to")
    check(not own.get("privileged"), name, "it is privileged")


def unique(its, names):
    check(len(names) == len(set(names)), its, f"twice: {names}")


def pod_of(workload):
    spec = workload["spec"]
    return (spec["jobTemplate"]["spec"] if workload["kind"] == "CronJob" else spec)["template"]["spec"]


objects = [one for one in yaml.safe_load_all(sys.stdin) if one]
for one in objects:
    for version in VERSIONS:
        kubernetes_validate.validate(one, version, strict=True)

config_maps = {one["metadata"]["name"]: one["data"] for one in objects if one["kind"] == "ConfigMap"}
workloads = [one for one in objects if one["kind"] in WORKLOADS]
check(workloads, "the manifest", "has no workload")
for one in objects:
    changed = "egress" in yaml.dump(one).lower()
    check(changed == (one["kind"] in WORKLOADS + ["ConfigMap"]), one["kind"], f"changed: {changed}")
for one in workloads:
    name, pod = f"{one['kind']} {one['metadata']['name']}", pod_of(one)
    ours = [container for container in pod["initContainers"] if container["name"] == "egress-shim"]
    check(len(ours) == 1, name, f"init containers of ours: {ours}")
    # The library is there before anything else of the pod starts.
    check(pod["initContainers"][0] is ours[0], name, "ours is not the first init container")
    preloads = [variable for variable in ours[0].get("env", []) if variable["name"] == "LD_PRELOAD"]
    check(len(ours[0]["volumeMounts"]) == 1 and not preloads, name, f"ours gets the library: {ours[0]}")
    own = pod["initContainers"][1:] + pod["containers"]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    unique(name, [volume["name"] for volume in pod["volumes"]])
    check("emptyDir" in volumes["egress-shim"], name, "the volume is no emptyDir")
    for container in own:
        its = f"{name}, container {container['name']}"
        mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
        unique(its, [mount["mountPath"] for mount in container["volumeMounts"]])
        check(mounts["/egress-shim"] == {"name": "egress-shim", "mountPath": "/egress-shim", "readOnly": True}, its, mounts)
        last = container["envFrom"][-1]["configMapRef"]["name"]
        check("EGRESS_SHIM_STRICT" in config_maps.get(last, {}), its, f"the settings are not the last: {last}")
        names = [variable["name"] for variable in container.get("env", [])]
        unique(its, names)
        if PRELOAD in mounts:
            source = volumes[mounts[PRELOAD]["name"]]["configMap"]["name"]
            check(mounts[PRELOAD]["subPath"] in config_maps[source], its, f"{source} does not have the file")
            check(mounts[PRELOAD]["readOnly"] is True, its, "it can be written to")
        else:
            check("LD_PRELOAD" in names, its, f"LD_PRELOAD is missing: {names}")
    for container in ours + own:
        restricted(f"{name}, container {container['name']}", pod, container)

print("kinds", *sorted({one["kind"] for one in workloads}), sep="\t")
pod = pod_of(workloads[0])
init = next(container for container in pod["initContainers"] if container["name"] == "egress-shim")
first = pod["containers"][0]
print("init-image", init["image"], sep="\t")
print("init-command", *init["command"], sep="\t")
print("init-mount", init["volumeMounts"][0]["mountPath"], sep="\t")
for container in init, first:
    environment = dict(config_maps[container["envFrom"][-1]["configMapRef"]["name"]])
    environment |= {variable["name"]: variable["value"] for variable in container.get("env", []) if "value" in variable}
    for variable in environment.items():
        print("env" if container is first else "init-env", "=".join(variable), sep="\t")
print("init-memory", init["resources"]["limits"]["memory"], sep="\t")
for mount in first["volumeMounts"]:
    if mount["name"] == "egress-shim":
        print("mount", mount["mountPath"], sep="\t")
    if mount["mountPath"] == PRELOAD:
        volume = next(volume for volume in pod["volumes"] if volume["name"] == mount["name"])
        print("preload-file", config_maps[volume["configMap"]["name"]][mount["subPath"]], sep="\t")

"""Checks a rendered manifest, given on standard input, and prints what a test needs to act it out.

- Every object against the schemas of several Kubernetes versions, no unknown field allowed.
- Every pod against the restricted pod security standard (kubernetes.io/docs/concepts/security/
  pod-security-standards), as far as a pod can break it that has no host path, port or namespace.
- The component has done its work on every container of every Deployment, and on nothing else.

Prints lines of KEY TAB VALUE...: the init container's image and command, and the environment and mounts
of the first Deployment's first container.
"""

import sys

import kubernetes_validate
import yaml

VERSIONS = ["1.28.3", "1.31.0", "1.34.1", "1.37.0"]
VARIABLES = ["LD_PRELOAD", "EGRESS_SHIM_IPV4_ONLY", "EGRESS_SHIM_KEEPALIVE", "EGRESS_SHIM_STRICT"]


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


objects = [one for one in yaml.safe_load_all(sys.stdin) if one]
for one in objects:
    for version in VERSIONS:
        kubernetes_validate.validate(one, version, strict=True)

deployments = [one for one in objects if one["kind"] == "Deployment"]
others = [one for one in objects if one["kind"] != "Deployment"]
check(deployments, "the manifest", "has no Deployment")
for one in others:
    check("egress" not in yaml.dump(one).lower(), one["kind"], "is no Deployment and was changed")
for one in deployments:
    pod = one["spec"]["template"]["spec"]
    name = one["metadata"]["name"]
    check(pod["initContainers"][0]["name"] == "egress-shim", name, "our init container is not the first")
    volume = next(v for v in pod["volumes"] if v["name"] == "egress-shim")
    check("emptyDir" in volume, name, "the volume is no emptyDir")
    for container in pod["containers"]:
        its = f"{name}, container {container['name']}"
        names = [variable["name"] for variable in container["env"]]
        check(len(names) == len(set(names)), its, f"variables are set twice: {names}")
        check(set(VARIABLES) <= set(names), its, f"variables are missing: {names}")
        mounts = [m for m in container["volumeMounts"] if m["name"] == "egress-shim"]
        check(len(mounts) == 1 and mounts[0]["readOnly"] is True, its, f"mounts: {mounts}")
    for container in pod["initContainers"][:1] + pod["containers"]:
        restricted(f"{name}, container {container['name']}", pod, container)

init = deployments[0]["spec"]["template"]["spec"]["initContainers"][0]
first = deployments[0]["spec"]["template"]["spec"]["containers"][0]
print("init-image", init["image"], sep="\t")
print("init-command", *init["command"], sep="\t")
print("init-mount", init["volumeMounts"][0]["mountPath"], sep="\t")
print("init-memory", init["resources"]["limits"]["memory"], sep="\t")
for variable in (v for v in first["env"] if "value" in v):
    print("env", f"{variable['name']}={variable['value']}", sep="\t")
print("mount", first["volumeMounts"][0]["mountPath"], sep="\t")

"""Fails unless AWS's own service models accept examples/aws/lambda.json and task-definition.json, as botocore checks
them before it sends a request.

Prints lines of KEY TAB VALUE...: what the task's first container does, and what the last one gets.
"""

import json
import pathlib
import sys

import botocore.session
from botocore.validate import ParamValidator

directory = pathlib.Path(sys.argv[1])


def valid(service, operation, file):
    parameters = json.loads((directory / file).read_text())
    model = botocore.session.get_session().get_service_model(service).operation_model(operation)
    report = ParamValidator().validate(parameters, model.input_shape)
    if report.has_errors():
        sys.exit(f"{file}: {report.generate_report()}")
    return parameters


function = valid("lambda", "UpdateFunctionConfiguration", "lambda.json")
task = valid("ecs", "RegisterTaskDefinition", "task-definition.json")
init, service = task["containerDefinitions"]
if service["dependsOn"] != [{"containerName": init["name"], "condition": "SUCCESS"}]:
    sys.exit("the service does not wait for the library")

for container in init, service:
    options = container["logConfiguration"]["options"]
    if not (task["executionRoleArn"] and options["awslogs-group"] and options["awslogs-stream-prefix"]):
        sys.exit(f"{container['name']} does not log, as Fargate asks for it")

for name, value in function["Environment"]["Variables"].items():
    print("lambda-env", f"{name}={value}", sep="\t")
print("init-user", init["user"], sep="\t")
print("init-command", *init["command"], sep="\t")
for key, container in ("init-", init), ("", service):
    (mount,) = container["mountPoints"]
    assert mount["sourceVolume"] == task["volumes"][0]["name"]
    print(f"{key}mount", mount["containerPath"] + ":ro" * mount.get("readOnly", False), sep="\t")
    for variable in container["environment"]:
        print(f"{key}env", f"{variable['name']}={variable['value']}", sep="\t")

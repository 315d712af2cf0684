"""What the emulator cannot do, and why. A template that needs more than this fails the test."""

from __future__ import annotations

LIMITS: dict[str, str] = {}
"""Types of resources that neither LocalStack nor moto makes, with the reason. They count as made.

Every type of template.yaml is made today.
"""

DIFFERENCES = {
    "ApiGatewayV2::*, Backup::*, CloudWatch::Dashboard, CodeDeploy::*, EC2::FlowLog, EC2::SecurityGroupIngress, MSK::*, RDS::*": (
        "LocalStack's open core lacks them: moto makes them by the API calls of moto_kinds.py."
    ),
    "Fn::Cidr": "LocalStack's CloudFormation does not know it: stacks.py computes it.",
    "Parameters of type Number": "LocalStack makes numbers of them; 0 is not the '0' of a condition: stacks.py passes strings.",
    "DeletionPolicy: RetainExceptOnCreate": "LocalStack deletes such a resource: stacks.py writes Retain.",
    "DeletionPolicy: Snapshot": "LocalStack has no way to tell moto of it: the cluster is deleted without a snapshot.",
    "A failed resource": "LocalStack may call its stack complete: the events decide, not the stack's state.",
    "DatabaseSnapshot": "moto knows a snapshot by its name and not by its ARN: moto_kinds.py takes the name out of the ARN.",
    "A restore to a moment": "moto restores the source as it is now; the moment itself is not looked at.",
    "AWS::Backup::BackupSelection": "moto has none: its properties and its plan are checked, and nothing is made.",
    "AWS::ApiGatewayV2::DomainName": "moto gives it no address: moto_kinds.py adds one. Its certificates are not looked at.",
    "KMS keys": "LocalStack and moto each have a KMS of their own: engine.py tells moto's of each key.",
    "MSK": "moto's ARN of a serverless cluster is not AWS's, and it does not tell the brokers' addresses: engine.py adds both.",
    "Functions": "There is no Docker. The custom resource's code runs in a process; the other functions have an empty handler.",
    "ReservedConcurrentExecutions": "LocalStack's CloudFormation takes it and does not set it.",
    "UpdatePolicy": "A deployment by CodeDeploy is not emulated: an alias moves at once.",
    "Permissions": "Nobody is refused anything: that a role lacks a permission does not show. Policies' form is checked.",
    "Order": "Resources are made one after the other: a missing DependsOn does not show.",
    "An update": "What moto makes cannot be updated; LocalStack forgets that a parameter was a list, so outputs are left out.",
    "Rules": "LocalStack does not read the template's rules; tests/aws/test_template.py does.",
}

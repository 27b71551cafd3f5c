"""CloudFormation's intrinsic functions."""

from __future__ import annotations

import pytest

from shoal.local.intrinsics import BadTemplate, Scope, choose, evaluate_conditions, references, resolve

SCOPE = Scope(
    values={"Stage": "dev", "AWS::Region": "us-east-1", "Zones": ["a", "b"], "Count": 3, "Flag": True},
    mappings={"Sizes": {"dev": {"Small": 256, "List": [1, 2]}}},
    reference={"Bucket": "data"}.get,
    attribute=lambda name, attribute: f"arn:{name}:{attribute}",
)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"Ref": "Stage"}, "dev"),
        ({"Ref": "Bucket"}, "data"),
        ({"Ref": "AWS::Region"}, "us-east-1"),
        ({"Fn::GetAtt": ["Bucket", "Arn"]}, "arn:Bucket:Arn"),
        ({"Fn::GetAtt": "Bucket.Arn"}, "arn:Bucket:Arn"),
        ({"Fn::Sub": "${Bucket}-${AWS::Region}-${Bucket.Arn}"}, "data-us-east-1-arn:Bucket:Arn"),
        ({"Fn::Sub": "${!Literal} ${Count} ${Flag}"}, "${Literal} 3 true"),
        ({"Fn::Sub": ["${X}/${Stage}", {"X": {"Ref": "Bucket"}}]}, "data/dev"),
        ({"Fn::Join": ["-", ["a", {"Ref": "Stage"}, 1]]}, "a-dev-1"),
        ({"Fn::Join": [",", {"Ref": "Zones"}]}, "a,b"),
        ({"Fn::Split": ["|", "x|y"]}, ["x", "y"]),
        ({"Fn::Select": ["1", {"Fn::Split": ["|", "x|y"]}]}, "y"),
        ({"Fn::Select": [0, {"Ref": "Zones"}]}, "a"),
        ({"Fn::FindInMap": ["Sizes", {"Ref": "Stage"}, "Small"]}, 256),
        ({"Fn::Base64": "hi"}, "aGk="),
        ({"a": [{"Ref": "Stage"}], "b": 1}, {"a": ["dev"], "b": 1}),
        (
            {"Condition": {"Bool": {"aws:SecureTransport": "false"}}},
            {"Condition": {"Bool": {"aws:SecureTransport": "false"}}},
        ),
    ],
)
def test_functions(value, expected):
    assert resolve(value, SCOPE, "here") == expected


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ({"Ref": "Nowhere"}, "here refers to 'Nowhere'"),
        ({"Fn::Sub": "${Nowhere}"}, "here refers to 'Nowhere'"),
        ({"Fn::Sub": "${Nowhere.Arn}"}, "Nowhere.Arn"),
        ({"Fn::GetAtt": ["Nowhere", "Arn"]}, "Nowhere.Arn"),
        ({"Fn::GetAtt": "Bucket"}, "Fn::GetAtt has the wrong arguments"),
        ({"Fn::Sub": 3}, "Fn::Sub has the wrong arguments"),
        ({"Fn::Sub": "${Zones}"}, "a list or a map"),
        ({"Fn::Join": "x"}, "Fn::Join has the wrong arguments"),
        ({"Fn::Select": [5, ["a"]]}, "Fn::Select has the wrong arguments"),
        ({"Fn::Split": "x"}, "Fn::Split has the wrong arguments"),
        ({"Fn::FindInMap": ["Sizes", "prod", "Small"]}, "no Sizes.prod.Small"),
        ({"Fn::FindInMap": ["Sizes"]}, "Fn::FindInMap has the wrong arguments"),
        ({"Fn::ImportValue": "x"}, "Fn::ImportValue"),
        ({"Fn::GetAZs": ""}, "here uses Fn::GetAZs"),
    ],
)
def test_wrong_functions_are_named(value, reason):
    with pytest.raises(BadTemplate) as caught:
        resolve(value, SCOPE, "here")
    assert reason in caught.value.reason


def test_conditions():
    decided = evaluate_conditions(
        {
            "IsDev": {"Fn::Equals": [{"Ref": "Stage"}, "dev"]},
            "IsThree": {"Fn::Equals": [{"Ref": "Count"}, "3"]},
            "IsProd": {"Fn::Not": [{"Condition": "IsDev"}]},
            "Both": {"Fn::And": [{"Condition": "IsDev"}, {"Condition": "IsProd"}]},
            "Either": {"Fn::Or": [{"Condition": "IsDev"}, {"Condition": "IsProd"}]},
        },
        SCOPE,
    )
    assert decided == {"IsDev": True, "IsThree": True, "IsProd": False, "Both": False, "Either": True}


@pytest.mark.parametrize(
    ("definitions", "reason"),
    [
        ({"A": {"Condition": "B"}, "B": {"Condition": "A"}}, "A -> B -> A"),
        ({"A": {"Condition": "Missing"}}, "'Missing' isn't defined"),
        ({"A": {"Fn::Sub": "x"}}, "'A' has an expression that isn't one"),
        ({"A": {"Fn::And": [{"Fn::Equals": ["a", "a"]}]}}, "'A' has an expression that isn't one"),
    ],
)
def test_wrong_conditions_are_named(definitions, reason):
    with pytest.raises(BadTemplate) as caught:
        evaluate_conditions(definitions, SCOPE)
    assert reason in caught.value.reason


def test_choose_takes_branches_and_leaves_out_no_value():
    value = {
        "a": {"Fn::If": ["Yes", {"Fn::If": ["No", 1, 2]}, 3]},
        "b": {"Fn::If": ["No", 1, {"Ref": "AWS::NoValue"}]},
        "c": [{"Fn::If": ["Yes", {"Ref": "AWS::NoValue"}, 1]}, 4],
    }
    assert choose(value, {"Yes": True, "No": False}, "here") == {"a": 2, "c": [4]}
    with pytest.raises(BadTemplate, match="'Maybe'"):
        choose({"Fn::If": ["Maybe", 1, 2]}, {}, "here")
    with pytest.raises(BadTemplate, match="Fn::If takes"):
        choose({"Fn::If": ["Yes", 1]}, {"Yes": True}, "here")


def test_references_are_found_everywhere():
    value = [
        {"Ref": "A"},
        {"Fn::GetAtt": ["B", "Arn"]},
        {"Fn::Sub": "${C} ${D.Arn} ${!NotThis} ${Local}"},
        {"Fn::Sub": ["${Local}", {"Local": {"Ref": "E"}}]},
        {"Fn::Join": ["", [{"Ref": "F"}]]},
    ]
    assert set(references(value)) == {"A", "B", "C", "D", "Local", "E", "F"}

"""The key of every object in the artifacts bucket, in one place.

```
datasets/<name>/files/<sha256>.jsonl.gz                 at most 10,000 files of a set too large for request.json
                sources/<id>/source.json                what is read, and in which segments
                             segments.json              what the Map of the state machine goes over
                             started.json, export.json  a table's export that was asked for; its files, once it is done
                             segment-000.json           how far a segment has come, written after its parts
                             <sha256>.jsonl             rows of a table that was read
datasets/<name>/<version>/request.json                  what was uploaded, and the settings
                          plan.json                     preprocessing spec and work items
                          work-items.json, pack-items.json   what the Maps of the state machine go over
                          blocks/block-00000            a part of the source that planning re-packed to be read alone
                          labels/item-00000.safetensors the labels of one work item's files
                          pieces/piece-00000.json       one work item's outcome, written after its tensors
                          pieces/piece-00000.safetensors, .places.json
                          assignment.json, .safetensors which samples each final shard takes
                          packs/pack-00000.json         one final shard's outcome, written after its tensors
                          train/shard-00000.safetensors
                          report.json, report.html      what was kept, dropped and why
                          compared.json                 the version that drift is told against
                          manifest.json                 the index, written last
                          features/<digest>/            what a backbone made of the samples; digest: of both
                              train/shard-00000.json    one shard's features, written after them
                              train/shard-00000-000.safetensors
                              features.json             the index, written last
quarantine/<name>/<version>/item-00000.jsonl            bad samples with reasons; files as they were beside them
exports/<name>/<id>/AWSDynamoDB/<export>/               what DynamoDB exports of a table; deleted after a week
runs/<run>/request.json   what was asked for, of a run that no upload began
           settings.json  the resolved settings
           graphs/forward.onnx, graphs/step.onnx
           graphs/network.safetensors                   the forward graph for a SageMaker job
           job/sourcedir.tar.gz                         the program of a SageMaker job
           job/attempt-1.json, job/failure-1.json       how an attempt ended that another one follows; what ended it
           job/checkpoints/, job/<job>/output/model.tar.gz   of a user's own script: what it keeps, and what it made
           graphs/frozen.onnx, graphs/head.onnx         of a backbone: what is computed once, and what is trained on it
           graphs/tuning.onnx                           the step that trains the backbone's last blocks as well
           feature-items.json                           what the Map of Compute Features goes over
           checkpoints/checkpoint-000012.safetensors
           averages/average-000012.safetensors          the weights' moving average, where the run has one
           parts/round-000012/part-000.safetensors      how far a worker is that ran out of time
           lost/round-000012/lost-000.safetensors       what rounding lost of a small update, for the next one
           origin.json                                  the run whose weights a warm start takes
           rounds/round-000012.json                     metrics of one round, written after its checkpoint
           evaluation/shard-00000.json, evaluation.json
           evaluation/champion-000001/shard-00000.json  the version in production on the same samples
           model.onnx, candidates/int8-static.onnx      what training exported, and what is served instead of it
updates/<run>/round-000012/update-000.safetensors       what a worker made of a round; deleted after two days
tunings/<id>/request.json                                what a search was asked for
             plan.json                                  the space that its trials are drawn from
             lanes.json                                 what the Map of the state machine goes over
             report.html, report.json                   its trials, written when it has ended
networks/<sha256>/network.onnx                          a user's own network, as it was uploaded
                  <dataset>/<version>/<settings>/forward.onnx, values.safetensors   fitted to a dataset version
                                                 network.json   what was decided, written last
models/<name>/<version>/model.onnx, spec.json
                        backbone.json                   what is known of a backbone
                        card.json, card.html, card.md         what is known of the version, written last
streams/<stream>/<shard>/after-<number>.jsonl            outcomes of the records after a sequence number, in order
streams/<queue>/<sha256>.jsonl                           outcomes of messages, named by their ids
streams/<place>/dead/<sequence>                          bytes of a dead record that are too many for a message
batches/<model>/<job>/request.json                      what was uploaded, and the settings
                      inputs.json                       the files, pinned
                      plan.json                         the model's version, and the pieces
                      work-items.json                   what the Map of Predict Batch goes over
                      blocks/block-00000                as of a dataset version
                      pieces/piece-00000.json           one piece's outcome, written after its output
                      output/part-00000.csv             its records with predictions; in the input's format
                      errors/part-00000.jsonl           the first of its records that couldn't be answered
                      predictions.csv                   all parts as one file
                      manifest.json                     the index, written last
```
"""

from __future__ import annotations

from shoal_core.keys.data import BlockKeys, DatasetKeys, FeatureKeys, SourceKeys, listing_key
from shoal_core.keys.serving import BatchKeys, ModelKeys, StreamKeys
from shoal_core.keys.training import FittedKeys, NetworkKeys, RunKeys, TuningKeys, script_key

__all__ = [
    "BatchKeys",
    "BlockKeys",
    "DatasetKeys",
    "FeatureKeys",
    "FittedKeys",
    "ModelKeys",
    "NetworkKeys",
    "RunKeys",
    "SourceKeys",
    "StreamKeys",
    "TuningKeys",
    "listing_key",
    "script_key",
]

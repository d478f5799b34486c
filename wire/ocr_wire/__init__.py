"""What programs of different versions say to each other: the operator, the server, the plugin, and what tests them.

- `names`: labels, annotations, files, environment variables and paths that more than one program spells
- `tasks`: what can be asked of a page
- `engines`: what runs a model's weights, and what each engine needs and can do
- `states`: the states of a model, where its weights are, the kinds of device
- `definitions`: the schemas of the definitions of this version, by their digests
- `conditions`: what a resource's status says about it
- `settings`: the live settings, one row each: path, bounds, default, its reader
- `live_settings`: their values, hash and envelope, as sent to pods and echoed by them
- `live_override`: those that count for a while, in an annotation of the resource
- `state`: the document with which a pod reports its state
- `errors`: the document that a refused request is answered with
- `placement`: the annotations of a placed pod
- `routing`: the annotation that says why a pod gets requests, or none
- `quantity`: sizes as Kubernetes writes them
- `redaction`: secrets are taken out of texts that leave a process
- `arguments`: command lines whose errors repeat no secret
- `tokens`: tokens from files and variables, fit for a header
- `addresses`: URLs of pods
- `sparse`: lines of a log that would come by the thousand
- `garbage`: garbage collection in a process that stays
- `accept`: the formats of metrics that a request accepts
- `numbers`: numbers in texts, read strictly
- `text`, `checked`: bounds of strings and numbers; JSON from outside, with the place of a fault

A reader never raises: what can't be believed comes back as a `checked.Invalid` that names the place. What another
program wrote is read tolerantly: a field that this version doesn't know is ignored, a missing optional one means what
it meant before there was such a field, and a word that isn't known is `unknown`. What a person writes is read strictly.

This package depends on msgspec only, does no I/O, and imports nothing of the programs.
"""

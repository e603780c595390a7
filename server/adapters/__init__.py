"""Adapters: what training made, checked, kept, loaded into the running engine, and named for clients.

names        name@version, and what may be called so
records      Artefact (a folder that passed), Base (the model it must fit), Live (one the engine holds)
tensor_files headers and finiteness without a tensor library
manifest     manifest.json and the digest that is the version
folder       a folder read without following anything out of it
peft_config  the closed list of what an adapter_config.json may say
checks       tensors held against the base model
whole        the same of what changes the base's own weights
intake       folder or upload → the registry's own copy, or a refusal that changes nothing
book         the journal database's side: versions, aliases, steps
registry     the live side: load, hold, drain, unload, promote, roll back
"""

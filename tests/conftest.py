from hypothesis import settings

# A machine under load is slow, which says nothing about the code: no test here is timed.
settings.register_profile("onlinevpo", deadline=None)
settings.load_profile("onlinevpo")

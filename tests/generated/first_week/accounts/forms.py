from allauth.account.forms import SignupForm
from django import forms


class LongSignupForm(SignupForm):
    first_name = forms.CharField(max_length=30, label="First name")

    def save(self, request):
        user = super().save(request)
        user.first_name = self.cleaned_data["first_name"]
        user.save()
        return user
